"""The parser that the commands of all packages share."""

import argparse
from typing import Any


class WholeFlagsParser(argparse.ArgumentParser):
    """A parser that takes whole flag names only, and keeps its help's lines."""

    def __init__(self, prog: str | None = None, **arguments: Any) -> None:
        super().__init__(
            prog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **arguments,
        )
