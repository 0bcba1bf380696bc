"""The publish command with the tiny variant beside the ten, for tests that need a process.

python -m tests.support.publish_tiny --variants cait_tiny_32 ...
"""

import sys

from signatures.program import run


def _main() -> int:
    from export.variants import VARIANTS
    from pipelines.publish.command import main
    from tests.support.conversions import conversions_reused
    from tests.support.trees import TINY, TINY_VARIANT

    VARIANTS[TINY] = TINY_VARIANT
    with conversions_reused():
        return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run(_main))
