"""The answers of each method of the API. Imports `servables`."""
