"""The REST API: TF Serving's calls as JSON. Imports `calls` and `servables`."""
