# An image for workers: of Flink and Spark (DOCKER, or worker pools for EXTERNAL), and of Dataflow.
# docker/README.md has the commands.

# Of the version of apache-beam in requirements.lock: a test compares them.
FROM apache/beam_python3.11_sdk:2.77.0 AS beam

FROM python:3.11-slim-bookworm

COPY requirements.lock build/wheels/cait_serving-*.whl /tmp/packages/
RUN pip install --no-cache-dir --require-hashes --requirement /tmp/packages/requirements.lock \
    && pip install --no-cache-dir --no-index --no-deps /tmp/packages/cait_serving-*.whl \
    && pip check \
    && rm -r /tmp/packages

# What more Beam needs for a cloud, such as `gcp` for Google's storage and Dataflow. It is not locked.
ARG EXTRAS=""
RUN test -z "$EXTRAS" || pip install --no-cache-dir "apache-beam[$EXTRAS]==2.77.0"

# The program that an engine starts, and that starts the SDK harness with what is installed above.
COPY --from=beam /opt/apache/beam /opt/apache/beam
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
# Models are compared with a NumPy reference, to tolerances of float32 on a processor.
ENV CUDA_VISIBLE_DEVICES=-1
ENTRYPOINT ["/opt/apache/beam/boot"]
