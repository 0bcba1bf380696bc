"""The Beam jobs: `pipelines.publish` converts, validates and publishes models."""

from .quiet import load_beam

# Every module here needs it, and the first to import it would let its warnings through.
load_beam()
