"""Readers of all formats of data, and sampling. Imports `runtime` and `elements`."""
