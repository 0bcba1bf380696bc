"""InferenceServices of KServe: held to the schemas of KServe and of Kubernetes."""

import json

import jsonschema
import kubernetes_validate
import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.model_server.flags import parse_flags
from serving_configs.rollout.labels import promote
from serving_configs.server.deployment import KSERVE_ROOT, kubernetes_claim
from serving_configs.server.models_config import add_published
from serving_configs.tree.published import PublishedModel
from tests.support.deployment import CONFIG, KUBERNETES, MODELS, kserve
from tests.support.paths import REPOSITORY


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
