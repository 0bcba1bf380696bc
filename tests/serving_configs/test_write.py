"""What a publish run writes around its models, and what `write` does again."""

import pathlib

from tests.serving_configs.conftest import MODELS, TINY


def files_of(tree: pathlib.Path) -> set[str]:
    return {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}


def test_publishing_writes_everything_around_the_models(published_tree: pathlib.Path) -> None:
    found = files_of(published_tree)
    assert {name for name in found if name.startswith("hub/")} == {
        *(f"hub/cait/{model}/1.tar.gz" for model in MODELS),
        *(f"hub/docs/cait/{model}/1.md" for model in MODELS),
        "hub/docs/cait/cait.md",
        "hub/docs/cait/collections/cait/1.md",
        "hub/kaggle/cait/model-metadata.json",
        "hub/kaggle/cait/tiny-32/model-instance-metadata.json",
        "hub/kaggle/cait/tiny-32-fe/model-instance-metadata.json",
    }
    assert found >= {
        "serving/models.config",
        "serving/batching_parameters.txt",
        "serving/monitoring.config",
        "deployment/docker-compose.yaml",
        *(f"deployment/kubernetes/{model}.yaml" for model in MODELS),
        *(f"deployment/kubernetes-xla/{model}.yaml" for model in MODELS),
        *(f"serving/{model}/1/batching_params.pbtxt" for model in MODELS),
        *(f"serving/{model}/1/assets.extra/tf_serving_warmup_requests" for model in MODELS),
    }
    assert TINY in (published_tree / "serving" / "models.config").read_text()
