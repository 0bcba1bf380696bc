"""Models, their versions and sessions. Imports nothing of the other rooms of the server."""
