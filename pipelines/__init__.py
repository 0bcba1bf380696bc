"""The Beam jobs, the only place that imports Beam.

Imports `export`, `signatures` and `serving_configs`. The rooms: publish -> gate -> data -> runtime,
publish -> store, evaluate beside publish; `elements` is what travels, `filesystem` opens files.
`verify` and `sample_shard` are commands of one file.
"""

from .runtime.quiet import load_beam

# Every module here needs it, and the first to import it would let its warnings through.
load_beam()
