"""The published tree: paths, manifests, published versions, atomic files. Imports `signatures`."""
