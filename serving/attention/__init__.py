"""Where a model looks: numbers, pictures, and the command `python -m serving.attention`.

Imports `serving.client`, and the session of `serving.model_server` for a SavedModel that no server
has loaded.
"""
