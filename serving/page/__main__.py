"""`python -m serving.page`: shows where a model looks on a local page."""

import sys

from .command import main

if __name__ == "__main__":
    sys.exit(main())
