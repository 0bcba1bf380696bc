#!/usr/bin/env python3
"""A container executable in Python: what Beam's image has as /opt/apache/beam/boot.

A TaskManager of Flink's runs it for its SDK harness, or a worker pool does. It fetches what the job
staged, installs the wheels of `--extra_package`, and becomes the harness.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import grpc
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_artifact_api_pb2 as artifacts
from apache_beam.portability.api import beam_artifact_api_pb2_grpc as artifact_service
from apache_beam.portability.api import beam_provision_api_pb2 as provision
from apache_beam.portability.api import beam_provision_api_pb2_grpc as provision_service
from apache_beam.portability.api import beam_runner_api_pb2 as runner
from apache_beam.portability.api import endpoints_pb2 as endpoints
from google.protobuf import json_format, text_format


def main() -> None:
    """Reads the flags of the container contract and never returns."""
    parser = argparse.ArgumentParser()
    for flag in ("id", "provision_endpoint"):
        parser.add_argument(f"--{flag}", required=True)
    # A pool says these by flags, too, Flink by the first of its services alone.
    for name in ("logging", "artifact", "control"):
        parser.add_argument(f"--{name}_endpoint")
    flags = parser.parse_args()
    identity = (("worker_id", flags.id),)
    provisions = provision_service.ProvisionServiceStub(_channel(flags.provision_endpoint))
    info = provisions.GetProvisionInfo(provision.GetProvisionInfoRequest(), metadata=identity).info
    logging = flags.logging_endpoint or info.logging_endpoint.url
    artifact = flags.artifact_endpoint or info.artifact_endpoint.url
    control = flags.control_endpoint or info.control_endpoint.url
    home = pathlib.Path(tempfile.mkdtemp(prefix="harness-"))
    names = _fetch(info, artifact, identity, home)
    code = home / "code"
    wheels = home / "extra_packages.txt"
    if wheels.name in names:
        _install([home / name for name in wheels.read_text().split()], code)
    os.environ.update(
        {
            "PYTHONPATH": str(code),
            "WORKER_ID": flags.id,
            "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
            "SEMI_PERSISTENT_DIRECTORY": str(home),
            "LOGGING_API_SERVICE_DESCRIPTOR": _descriptor(logging),
            "CONTROL_API_SERVICE_DESCRIPTOR": _descriptor(control),
            "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
        }
    )
    harness = [sys.executable, "-m", "apache_beam.runners.worker.sdk_worker_main"]
    os.execv(sys.executable, harness)


def _channel(url: str) -> grpc.Channel:
    return grpc.insecure_channel(url, [("grpc.max_receive_message_length", -1)])


def _descriptor(url: str) -> str:
    return str(text_format.MessageToString(endpoints.ApiServiceDescriptor(url=url)))


def _fetch(info: Any, endpoint: str, identity: Any, home: pathlib.Path) -> list[str]:
    service = artifact_service.ArtifactRetrievalServiceStub(_channel(endpoint))
    asked = artifacts.ResolveArtifactsRequest(artifacts=info.dependencies)
    names = []
    for artifact in service.ResolveArtifacts(asked, metadata=identity).replacements:
        assert artifact.role_urn == common_urns.artifact_roles.STAGING_TO.urn
        role = runner.ArtifactStagingToRolePayload.FromString(artifact.role_payload)
        request = artifacts.GetArtifactRequest(artifact=artifact)
        with open(home / role.staged_name, "wb") as file:
            for part in service.GetArtifact(request, metadata=identity):
                file.write(part.data)
        names.append(role.staged_name)
    return names


def _install(wheels: list[pathlib.Path], target: pathlib.Path) -> None:
    flags = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    pip = [sys.executable, "-m", "pip", "install", *flags, "--target", str(target)]
    subprocess.run([*pip, *map(str, wheels)], check=True)


if __name__ == "__main__":
    main()
