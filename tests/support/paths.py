"""Where the repository, its packages and the tests' data are."""

import pathlib

REPOSITORY = pathlib.Path(__file__).parents[2]
DATA = REPOSITORY / "tests" / "data"
PACKAGES = ("signatures", "serving_configs", "export", "pipelines", "serving")
