"""Beam's in-process runner with its SDK harnesses in several worker pools; Beam's own knows one.

    --runner=tests.support.cluster.pools_runner.PoolsRunner
    --environment_config=HOST:PORT,HOST:PORT,... --direct_num_workers=N --extra_package=WHEEL

Harness i is from pool i modulo their number. Nothing is retried: a lost harness ends the job.
"""

import concurrent.futures
from typing import Any

import grpc
from apache_beam import Pipeline
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions
from apache_beam.portability.api import beam_fn_api_pb2 as fn
from apache_beam.portability.api import beam_fn_api_pb2_grpc as fn_service
from apache_beam.portability.api import beam_provision_api_pb2 as provision
from apache_beam.runners.portability.fn_api_runner.fn_runner import (
    ExtendedProvisionInfo,
    FnApiRunner,
)
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.transforms import environments


class _Pools(fn_service.BeamFnExternalWorkerPoolServicer):
    """A worker pool that has its harnesses started by others in turn."""

    def __init__(self, addresses: list[str]) -> None:
        self._pools = [
            fn_service.BeamFnExternalWorkerPoolStub(grpc.insecure_channel(address))
            for address in addresses
        ]
        self._started = 0

    def StartWorker(self, request: Any, context: object) -> Any:  # noqa: N802
        pool = self._pools[self._started % len(self._pools)]
        self._started += 1
        return pool.StartWorker(request)

    def StopWorker(self, request: Any, context: object) -> Any:  # noqa: N802
        for pool in self._pools:
            pool.StopWorker(request)
        return fn.StopWorkerResponse()


class _Job:
    """A job that runs in a thread, as other engines run it elsewhere."""

    def __init__(self, done: "concurrent.futures.Future[Any]", pools: grpc.Server) -> None:
        self._done = done
        self._pools = pools

    def wait_until_finish(self, duration: int | None = None) -> str:
        try:
            return str(self._done.result().wait_until_finish(duration))
        finally:
            self._pools.stop(None)


class PoolsRunner(FnApiRunner):
    """Runs a pipeline in this process, and its DoFns in the worker pools."""

    def run_pipeline(self, pipeline: Pipeline, options: PipelineOptions) -> _Job:
        """Starts the job."""
        addresses = options.view_as(PortableOptions).environment_config.split(",")
        pools = grpc.server(concurrent.futures.ThreadPoolExecutor())
        fn_service.add_BeamFnExternalWorkerPoolServicer_to_server(_Pools(addresses), pools)
        port = pools.add_insecure_port("127.0.0.1:0")
        pools.start()
        self._default_environment = environments.ExternalEnvironment(
            f"localhost:{port}", artifacts=environments.python_sdk_dependencies(options)
        )
        sent = JobServiceHandle.encode_pipeline_options(options.get_all_options(drop_default=True))
        self._provision_info = ExtendedProvisionInfo(
            provision.ProvisionInfo(pipeline_options=sent, retrieval_token="none")
        )
        executor = concurrent.futures.ThreadPoolExecutor(1)
        return _Job(executor.submit(super().run_pipeline, pipeline, options), pools)
