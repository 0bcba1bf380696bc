"""A cluster on this machine, for tests and to be seen: `python -m tests.support.cluster`."""
