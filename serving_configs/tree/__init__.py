"""The published tree: its paths, manifests, published models and files. Imports `signatures`."""
