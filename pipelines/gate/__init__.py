"""The check that a model must pass to be published. Imports `data`, `runtime` and `elements`."""
