"""Writing a SavedModel: graph functions, inference blocks, deterministic bytes, stripping."""
