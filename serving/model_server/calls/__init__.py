"""What each method of the API answers. Imports `servables`."""
