"""Sample shards, image folders and sampling. Imports `runtime` and `elements`."""
