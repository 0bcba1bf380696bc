"""The development server: TF Serving's API over published directories, in Python.

The command is `python -m serving.model_server`. Imports `signatures` and `serving_configs`, never a
client. TensorFlow is loaded after the flags are read, since it needs some of them when it loads.

    server        puts the parts together; flags, tls, monitoring, loading, warmup
    servables/    versions of models, their configs and sessions
    calls/        the answers of each method of the API
    batching/     joins requests to batches
    rest/         the same calls as JSON
"""
