"""The local page, `python -m serving.page`. Imports `serving.attention` and `serving.client`, and
starts a `serving.model_server` of its own.
"""
