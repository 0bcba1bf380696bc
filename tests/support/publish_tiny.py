"""The publish command with the tiny variant beside the ten, for tests that need a process.

python -m tests.support.publish_tiny --variants cait_tiny_32 ...
"""

import sys

from export.variants import VARIANTS
from pipelines.publish.command import main
from tests.support.trees import TINY, TINY_VARIANT

if __name__ == "__main__":
    VARIANTS[TINY] = TINY_VARIANT
    sys.exit(main(sys.argv[1:]))
