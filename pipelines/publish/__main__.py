"""`python -m pipelines.publish`: converts, validates and publishes models."""

import sys

from signatures.program import run


def _main() -> int:
    from .command import main

    return main()


if __name__ == "__main__":
    sys.exit(run(_main))
