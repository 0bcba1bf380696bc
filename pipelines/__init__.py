"""The Beam jobs: `pipelines.publish` converts, validates and publishes models."""
