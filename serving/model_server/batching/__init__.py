"""Joins requests to batches. Imports `servables`."""
