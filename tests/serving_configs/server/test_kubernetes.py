"""Kubernetes manifests: held to the schemas, their parts to each other, a config to its pods."""

import dataclasses

import kubernetes_validate
import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving_configs.rollout.labels import promote
from serving_configs.server.deployment import IMAGE, kubernetes_claim
from serving_configs.server.models_config import add_published
from serving_configs.server.monitoring import MONITORING_TEXT
from serving_configs.tree.files import FileRecord
from serving_configs.tree.published import PublishedModel
from tests.support.deployment import CONFIG, KUBERNETES, MODELS, container, kubernetes


@pytest.mark.parametrize("which", MODELS, ids=lambda m: m.model)
def test_kubernetes_manifests_hold_to_the_schemas(which: PublishedModel) -> None:
    documents = kubernetes(which)
    for document in documents.values():
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    container(documents)["resources"]["requests"]["memory"] = [1]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(documents["Deployment"], KUBERNETES, strict=True)


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
