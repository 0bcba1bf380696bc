"""What a server reads: models.config, batching, monitoring, deployment files. Imports `tree`."""
