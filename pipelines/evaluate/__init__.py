"""The job that measures what is published: `python -m pipelines.evaluate`.

Imports `gate`, `data` and `runtime`; never `publish`.
"""
