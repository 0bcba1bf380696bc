"""Joining requests to batches. Imports `servables`."""
