"""`python -m serving.attention`: draws where a model looks."""

import sys

from .command import main

if __name__ == "__main__":
    sys.exit(main())
