"""`python -m pipelines.publish`: converts, validates and publishes models."""

import sys

from .command import main

if __name__ == "__main__":
    sys.exit(main())
