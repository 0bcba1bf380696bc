"""A job with variants of two blocks beside the ten.

python -m tests.support.cluster.job publish FLAGS
"""

import sys

from export.variants import VARIANTS
from tests.support.cluster.small_variants import SMALL_VARIANTS


def main(argv: list[str]) -> int:
    """Runs the command, and returns its exit status."""
    VARIANTS.update({variant.name: variant for variant in SMALL_VARIANTS})
    name, *flags = argv
    if name == "publish":
        from pipelines.publish.command import main as publish

        return publish(flags)
    from pipelines.evaluate.command import main as evaluate

    return evaluate(flags)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
