"""`python -m pipelines.evaluate`: measures the accuracy of what is published."""

import sys

from .command import main

if __name__ == "__main__":
    sys.exit(main())
