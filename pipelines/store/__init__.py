"""The published tree on a disk or a Beam filesystem. Imports nothing else of `pipelines`."""
