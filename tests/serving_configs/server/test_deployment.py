"""What the deployment files for docker compose, Kubernetes and KServe have in common."""

import resource
import subprocess
import sys

import kubernetes_validate
import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.model_server.flags import Options, parse_flags
from serving_configs.server.deployment import (
    POLL_SECONDS,
    compose_file,
    kserve_manifests,
    kubernetes_manifests,
)
from serving_configs.server.environment import SERVER_ENVIRONMENT
from serving_configs.server.memory import server_memory
from serving_configs.server.models_config import add_published
from tests.support.deployment import (
    CONFIG,
    KUBERNETES,
    MODELS,
    compose,
    container,
    kserve,
    kubernetes,
)


@pytest.mark.parametrize("batching", [False, True])
def test_flags_are_the_servers(batching: bool) -> None:
    command = compose(batching)["services"]["serving"]["command"]
    assert command[:2] == ["--port=8500", "--rest_api_port=8501"]
    assert f"--model_config_file_poll_wait_seconds={POLL_SECONDS}" in command
    known = {field for field in Options.__dataclass_fields__}
    for arguments in (command, container(kubernetes(MODELS[0], batching))["args"]):
        assert {argument.removeprefix("--").partition("=")[0] for argument in arguments} <= known
        # Each value is of the flag's type; what this server lacks is refused by other tests.
        flags = [a for a in arguments if "monitoring" not in a and "rest_api" not in a]
        options = parse_flags(flags)
        # Joined to a batch, an image that cannot be decoded fails the requests of others.
        assert options.enable_batching == batching
        assert options.enable_per_model_batching_parameters == batching


def test_a_pod_gives_each_operation_one_of_its_two_processors() -> None:
    pod = container(kubernetes(MODELS[0]))
    assert pod["resources"]["requests"]["cpu"] == "2"
    of_server = [a for a in pod["args"] if "monitoring" not in a and "rest_api" not in a]
    # Of operations at a time there are as many as the server has processors.
    assert parse_flags(of_server).parallelism == (1, 0)
    # One client may have the machine of docker compose for itself.
    assert not [a for a in compose()["services"]["serving"]["command"] if "parallelism" in a]


def test_a_server_reads_a_url_itself() -> None:
    root = "gs://bucket/tree/serving"
    config = add_published(ModelServerConfig(), {m.model: [1] for m in MODELS}, root)
    content = yaml.safe_load(compose_file(MODELS, {m.model: 1 for m in MODELS}, root))
    for service in content["services"].values():
        assert "volumes" not in service
        assert f"--model_config_file={root}/models.config" in service["command"]
    documents = list(yaml.safe_load_all(kubernetes_manifests(MODELS[0], config)))
    kubernetes_validate.validate(documents[1], KUBERNETES, strict=True)
    own = text_format.Parse(documents[0]["data"]["models.config"], ModelServerConfig())
    assert own.model_config_list.config[0].base_path == f"{root}/cait_m48_448"
    pod = documents[1]["spec"]["template"]["spec"]
    assert [volume["name"] for volume in pod["volumes"]] == ["config"]
    assert [m["name"] for m in pod["containers"][0]["volumeMounts"]] == ["config"]


def test_memory_is_of_the_versions_that_are_loaded() -> None:
    pod = container(kubernetes(MODELS[1]))["resources"]
    # A pod's config stays as it is, and so do its versions.
    assert pod["limits"]["memory"] == f"{-(-server_memory([(MODELS[1], 1)]) // 2**20)}Mi"
    assert pod["requests"]["memory"] == pod["limits"]["memory"]
    reserved = compose()["services"]["serving"]["deploy"]["resources"]["reservations"]["memory"]
    # docker compose's server loads a new version beside each old one.
    assert reserved == f"{-(-server_memory([(m, 2) for m in MODELS]) // 2**20)}M"


def test_nothing_asks_for_xla() -> None:
    # A real server that is not told --xla_cpu_compilation_enabled=true never loads a version then.
    assert list(compose()["services"]) == ["serving"]
    texts = [
        write(which, CONFIG)
        for which in MODELS
        for write in (kubernetes_manifests, kserve_manifests)
    ]
    for text in (yaml.safe_dump(compose()), *texts):
        assert "xla" not in text.lower()


def test_every_server_has_its_tensors_in_the_heap_of_the_c_library() -> None:
    predictor = kserve(MODELS[0])["InferenceService"]["spec"]["predictor"]
    for variables in (container(kubernetes(MODELS[0]))["env"], predictor["model"]["env"]):
        assert {v["name"]: v["value"] for v in variables} == SERVER_ENVIRONMENT
    assert compose()["services"]["serving"]["environment"] == SERVER_ENVIRONMENT


_C_LIBRARY = (
    "import ctypes, resource, threading; libc = ctypes.CDLL(None);"
    "libc.malloc.restype = ctypes.c_void_p; libc.malloc.argtypes = [ctypes.c_size_t];"
    "libc.free.argtypes = [ctypes.c_void_p]; libc.sbrk.restype = ctypes.c_void_p;"
    "libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t];"
)


def in_a_process(code: str, variables: dict[str, str]) -> list[int]:
    """The numbers that code prints in a process with this environment alone."""
    command = [sys.executable, "-c", _C_LIBRARY + code]
    output = subprocess.run(command, env=variables, check=True, capture_output=True, text=True)
    return [int(number) for number in output.stdout.split()]


def test_the_c_library_takes_what_the_environment_says() -> None:
    """It ignores names that it does not know, and values that are too large."""
    allocate = (
        "before = libc.sbrk(0);"
        "block = libc.malloc(200 << 20); grown = libc.sbrk(0) - before; libc.free(block);"
        "print(grown >> 20, (libc.sbrk(0) - before) >> 20)"
    )
    # In the heap, and kept there.
    grown, kept = in_a_process(allocate, SERVER_ENVIRONMENT)
    # Less what was free at its end before.
    assert grown == kept >= 199
    assert all(number < 199 for number in in_a_process(allocate, {}))


def test_the_heap_of_a_thread_is_kept_too() -> None:
    """The heap of any thread but the first consists of pieces, of which this empties one."""
    # Without huge pages (PR_SET_THP_DISABLE), of which one fault would fill 512 pages.
    run = """
libc.prctl(41, 1, 0, 0, 0)

def tensor(size):
    block = libc.malloc(size << 20)
    libc.memset(block, 1, size << 20)
    return block

def work():
    kept = tensor(40)
    libc.free(tensor(40))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    libc.free(tensor(40))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    pages = (40 << 20) // resource.getpagesize()
    (faults,) = in_a_process(run, SERVER_ENVIRONMENT)
    assert faults < pages / 10
    returned = {key: value for key, value in SERVER_ENVIRONMENT.items() if "TOP_PAD" not in key}
    (faults,) = in_a_process(run, returned)
    assert faults > pages * 0.9
