"""The local page, `python -m serving.page`.

Imports `serving.attention`, `serving.client`, and `serving.model_server`, which it may start.
"""
