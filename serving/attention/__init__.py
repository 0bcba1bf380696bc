"""Where a model looks: maps, pictures, and the command `python -m serving.attention`.

Imports `serving.client`, and from `serving.model_server` the session that runs a SavedModel
without a server.
"""
