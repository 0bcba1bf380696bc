"""Uploads of versions and pages to hubs. Imports `hub`, `server`, `tree` and `trust`."""
