"""The reference: the forward pass and its preprocessing in NumPy."""
