"""The job that converts, validates and publishes models: `python -m pipelines.publish`.

Imports `gate`, `data`, `store` and `runtime`; never `evaluate`.
"""
