"""The development server: TF Serving's API over published directories, in Python.

`python -m serving.model_server` is the program. Imports `signatures` and `serving_configs`, never a
client. Nothing loads TensorFlow before the flags are read: some have to be set before it is loaded.

    server        the program's parts put together; flags, tls, monitoring, loading, warmup
    servables/    versions of models, their configs and sessions
    calls/        what each method of the API answers
    batching/     joining requests to batches
    rest/         the same calls as JSON
"""
