"""Deployment files, held to their schemas and to the server's flags."""

import dataclasses
import json
import pathlib
from typing import Any

import check_jsonschema
import jsonschema
import kubernetes_validate
import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.model_server.flags import Options, parse_flags
from serving_configs.rollout.labels import promote
from serving_configs.server.deployment import (
    IMAGE,
    KSERVE_ROOT,
    POLL_SECONDS,
    compose_file,
    kserve_manifests,
    kubernetes_claim,
    kubernetes_manifests,
)
from serving_configs.server.memory import server_memory
from serving_configs.server.models_config import add_published
from serving_configs.server.monitoring import MONITORING_TEXT
from serving_configs.tree.files import FileRecord
from serving_configs.tree.latency import LatencyProfile
from serving_configs.tree.manifest import Weights
from serving_configs.tree.published import PublishedModel
from signatures import Geometry
from tests.support.paths import REPOSITORY

SCHEMAS = pathlib.Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor"
KUBERNETES = "1.30"


def model(name: str = "cait_m48_448", measured: LatencyProfile | None = None) -> PublishedModel:
    return PublishedModel(
        directory=pathlib.Path("/published") / name / "1",
        model=name,
        version=1,
        variant=name.removesuffix("_fe"),
        head="features" if name.endswith("_fe") else "classifier",
        geometry=Geometry(448, 784, 16, 768, 1000, 48, 2),
        parameters=356_460_520,
        checkpoint=Weights("a file", "0" * 64, trained=True),
        contract="0" * 64,
        software={},
        files=(),
        measured=dataclasses.asdict(measured) if measured else None,
    )


MODELS = [model(), model("cait_m48_448_fe", LatencyProfile(0.1, 8, 0.2, 64 * 2**20))]
CONFIG = add_published(ModelServerConfig(), {m.model: [1] for m in MODELS}, "/published")


def compose(batching: bool = False) -> dict[str, Any]:
    text = compose_file(MODELS, {m.model: 1 for m in MODELS}, "/published", batching)
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def kubernetes(
    of: PublishedModel, batching: bool = False, config: ModelServerConfig = CONFIG
) -> dict[str, Any]:
    documents = list(yaml.safe_load_all(kubernetes_manifests(of, config, batching)))
    assert len(documents) == 4
    return {document["kind"]: document for document in documents}


def container(documents: dict[str, Any]) -> dict[str, Any]:
    (found,) = documents["Deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_compose_file_holds_to_the_schema() -> None:
    schema = json.loads((SCHEMAS / "compose-spec.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    assert not list(validator.iter_errors(compose()))
    # That the schema is not one that takes everything.
    wrong = compose()
    wrong["services"]["serving"]["comand"] = []
    assert list(validator.iter_errors(wrong))


@pytest.mark.parametrize("which", MODELS, ids=lambda m: m.model)
def test_kubernetes_manifests_hold_to_the_schemas(which: PublishedModel) -> None:
    documents = kubernetes(which)
    for document in documents.values():
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    container(documents)["resources"]["requests"]["memory"] = [1]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(documents["Deployment"], KUBERNETES, strict=True)


def kserve(
    of: PublishedModel, batching: bool = False, config: ModelServerConfig = CONFIG
) -> dict[str, Any]:
    documents = list(yaml.safe_load_all(kserve_manifests(of, config, batching)))
    assert len(documents) == 2
    return {document["kind"]: document for document in documents}


@pytest.mark.parametrize("which", MODELS, ids=lambda m: m.model)
def test_an_inference_service_holds_to_the_schemas(which: PublishedModel) -> None:
    """Of KServe for its own fields, and of Kubernetes for those of the pod."""
    documents = kserve(which)
    kubernetes_validate.validate(documents["ConfigMap"], KUBERNETES, strict=True)
    service = documents["InferenceService"]
    schema = json.loads((REPOSITORY / "tests/data/kserve/inference-service.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    assert not list(validator.iter_errors(service))
    predictor = service["spec"]["predictor"]
    of_kserve = ("modelFormat", "runtime", "storageUri")
    container = {k: v for k, v in predictor["model"].items() if k not in of_kserve}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "predictor", "annotations": predictor["annotations"]},
        "spec": {
            "containers": [{"name": "kserve-container", **container}],
            "volumes": predictor["volumes"],
        },
    }
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    # That neither takes everything.
    predictor["model"]["storageUrl"] = "pvc://claim"
    assert list(validator.iter_errors(service))
    container["readinessProbe"]["httpGet"]["prt"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            {**pod, "spec": {"containers": [{"name": "c", **container}]}}, KUBERNETES, strict=True
        )


@pytest.mark.parametrize("batching", [False, True])
def test_an_inference_service_serves_the_labels_of_its_config(batching: bool) -> None:
    documents = kserve(MODELS[1], batching)
    predictor = documents["InferenceService"]["spec"]["predictor"]
    data = documents["ConfigMap"]["data"]
    (entry,) = text_format.Parse(
        data["models.config"], ModelServerConfig()
    ).model_config_list.config
    assert (entry.name, entry.base_path) == ("cait_m48_448_fe", KSERVE_ROOT)
    assert dict(entry.version_labels) == {"stable": 1, "canary": 1}
    (volume,) = predictor["volumes"]
    assert volume["configMap"]["name"] == documents["ConfigMap"]["metadata"]["name"]
    model = predictor["model"]
    assert [mount["name"] for mount in model["volumeMounts"]] == [volume["name"]]
    named = {argument.partition("=")[2] for argument in model["args"]}
    assert {f"/config/{name}" for name in data} <= named
    # The ports are the runtime's, and so are the flags that name them.
    assert not [argument for argument in model["args"] if "port=" in argument]
    options = parse_flags([a for a in model["args"] if "monitoring" not in a])
    assert options.enable_batching == batching
    assert options.allow_version_labels_for_unavailable_models
    assert model["storageUri"] == "pvc://cait-models/cait_m48_448_fe"
    claim, _ = yaml.safe_load_all(kubernetes_claim(MODELS))
    assert claim["metadata"]["name"] == "cait-models"
    # A promotion makes new pods.
    promoted = add_published(CONFIG, {m.model: [1, 2] for m in MODELS}, "/published")
    after = kserve(MODELS[1], batching, promote(promoted, MODELS[1].model, 2, 2))
    assert after["ConfigMap"]["metadata"]["name"] != documents["ConfigMap"]["metadata"]["name"]


def test_an_inference_service_copies_a_model_from_a_url() -> None:
    root = "gs://bucket/tree/serving"
    config = add_published(ModelServerConfig(), {m.model: [1] for m in MODELS}, root)
    documents = kserve(MODELS[0], config=config)
    model = documents["InferenceService"]["spec"]["predictor"]["model"]
    assert model["storageUri"] == f"{root}/cait_m48_448"
    assert f'base_path: "{KSERVE_ROOT}"' in documents["ConfigMap"]["data"]["models.config"]


def test_the_claim_holds_to_the_schemas_and_is_the_one_that_pods_read() -> None:
    claim, writer = yaml.safe_load_all(kubernetes_claim(MODELS))
    for document in (claim, writer):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    for reader in (writer["spec"], kubernetes(MODELS[0])["Deployment"]["spec"]["template"]["spec"]):
        volumes = [volume for volume in reader["volumes"] if volume["name"] == "models"]
        claims = [volume["persistentVolumeClaim"]["claimName"] for volume in volumes]
        assert claims == [claim["metadata"]["name"]]
    large = dataclasses.replace(MODELS[0], files=(FileRecord("x", 2**30, "a" * 64),))
    claim, _ = yaml.safe_load_all(kubernetes_claim([large, MODELS[1]]))
    assert claim["spec"]["resources"]["requests"]["storage"] == "4Gi"


def test_a_storage_class_is_asked_for_pods_on_several_nodes() -> None:
    claim, _ = yaml.safe_load_all(kubernetes_claim(MODELS))
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert "storageClassName" not in claim["spec"]
    claim, _ = yaml.safe_load_all(kubernetes_claim(MODELS, "nfs-client"))
    kubernetes_validate.validate(claim, KUBERNETES, strict=True)
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert claim["spec"]["storageClassName"] == "nfs-client"


def test_the_parts_of_a_model_fit_each_other() -> None:
    documents = kubernetes(MODELS[1])
    name = "cait-m48-448-fe"
    assert {d["metadata"]["name"] for kind, d in documents.items() if kind != "ConfigMap"} == {name}
    deployment = documents["Deployment"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    for selector in (
        deployment["selector"]["matchLabels"],
        documents["Service"]["spec"]["selector"],
    ):
        assert selector.items() <= labels.items()
    ports = {port["name"]: port["containerPort"] for port in container(documents)["ports"]}
    assert {port["targetPort"] for port in documents["Service"]["spec"]["ports"]} == set(ports)
    assert documents["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == name
    volumes = {volume["name"] for volume in deployment["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in container(documents)["volumeMounts"]} == volumes
    assert container(documents)["image"] == IMAGE
    assert ":" in IMAGE
    assert "latest" not in IMAGE


def test_a_pod_is_ready_when_the_stable_version_is() -> None:
    probe = container(kubernetes(MODELS[0]))["readinessProbe"]["httpGet"]
    assert probe == {"path": "/v1/models/cait_m48_448/labels/stable/metadata", "port": "rest"}


def test_a_roll_out_waits_for_as_long_as_a_pod_may_start() -> None:
    documents = kubernetes(MODELS[0])
    probe = container(documents)["startupProbe"]
    starting = probe["periodSeconds"] * probe["failureThreshold"]
    assert documents["Deployment"]["spec"]["progressDeadlineSeconds"] > starting


def test_a_changed_config_becomes_new_pods() -> None:
    """A running server refuses labels of versions that it has yet to load, one that starts none."""
    promoted = add_published(CONFIG, {m.model: [1, 2] for m in MODELS}, "/published")
    names, templates = [], []
    for config in (CONFIG, CONFIG, promoted, promote(promoted, MODELS[0].model, 2, 2)):
        documents = kubernetes(MODELS[0], config=config)
        names.append(documents["ConfigMap"]["metadata"]["name"])
        templates.append(documents["Deployment"]["spec"]["template"])
        assert documents["ConfigMap"]["immutable"]
        (volume,) = (v for v in templates[-1]["spec"]["volumes"] if v["name"] == "config")
        assert volume["configMap"] == {"name": names[-1]}
        # It is not read again.
        assert not [arg for arg in container(documents)["args"] if "config_file_poll" in arg]
    assert names[0] == names[1]
    assert templates[0] == templates[1]
    assert len(set(names)) == 3
    assert len({t["metadata"]["annotations"]["checksum/config"] for t in templates}) == 3
    # The other model's pods stay: their config is the same.
    other = [
        kubernetes(MODELS[1], config=c)
        for c in (promoted, promote(promoted, MODELS[0].model, 2, 2))
    ]
    assert other[0] == other[1]


@pytest.mark.parametrize("batching", [False, True])
def test_the_config_map_has_what_the_server_reads(batching: bool) -> None:
    data = kubernetes(MODELS[1], batching)["ConfigMap"]["data"]
    found = text_format.Parse(data["models.config"], ModelServerConfig())
    (entry,) = found.model_config_list.config
    assert (entry.name, entry.base_path) == ("cait_m48_448_fe", "/models/cait_m48_448_fe")
    assert dict(entry.version_labels) == {"stable": 1, "canary": 1}
    assert data["monitoring.config"] == MONITORING_TEXT
    assert ("batching_parameters.txt" in data) == batching
    largest = "max_execution_batch_size { value: 16 }"
    assert (largest in data.get("batching_parameters.txt", "")) == batching
    mounted = {f"/config/{name}" for name in data}
    named = {arg.partition("=")[2] for arg in container(kubernetes(MODELS[1], batching))["args"]}
    assert mounted <= named


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


def test_compose_reads_the_trees_own_config() -> None:
    service = compose()["services"]["serving"]
    (volume,) = service["volumes"]
    assert volume == {
        "type": "bind",
        "source": "../serving",
        "target": "/published",
        "read_only": True,
    }
    assert "--model_config_file=/published/models.config" in service["command"]


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


S24_224 = Geometry(224, 196, 8, 384, 1000, 24, 2)


def weights_of(parameters: int, graph: int = 2_500_000) -> tuple[FileRecord, ...]:
    path = "variables/variables.data-00000-of-00001"
    files = {path: 4 * parameters, "saved_model.pb": graph}
    return tuple(FileRecord(name, size, "0" * 64) for name, size in files.items())


def test_memory_is_what_servers_were_measured_to_take() -> None:
    """In MiB, of `benchmarks.serving_memory`, and of a real server with its warm-up."""
    small = dataclasses.replace(
        MODELS[0], files=weights_of(11_956_264), geometry=Geometry(224, 196, 4, 192, 1000, 24, 2)
    )
    large = dataclasses.replace(
        MODELS[0], files=weights_of(47_062_120), geometry=Geometry(384, 576, 8, 384, 1000, 24, 2)
    )
    constant_small, constant_large = (
        dataclasses.replace(model, profile="throughput", files=weights_of(parameters, graph))
        for model, parameters, graph in (
            (small, 11_956_264, 23_897_564),
            (dataclasses.replace(large, geometry=S24_224), 46_916_200, 87_681_500),
        )
    )
    for models, taken in (
        ([(small, 1)], 891),
        ([(small, 2)], 1152),
        ([(large, 1)], 1072),
        ([(large, 2)], 1598),
        ([(small, 2), (small, 2)], 1335),
        ([(constant_small, 1)], 1381),
        ([(constant_small, 2)], 2417),
        ([(constant_large, 1)], 3012),
        ([(constant_large, 2)], 6036),
    ):
        assert taken <= server_memory(models) / 2**20 <= 1.5 * taken
    # Four requests as large as the largest batch.
    assert server_memory([(MODELS[1], 1)]) - server_memory([(MODELS[0], 1)]) == 4 * 16 * 64 * 2**20


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
