"""Which models a worker keeps loaded."""

import dataclasses
import pathlib

import pytest

import pipelines.publish.validate
from export.checkpoints.sources import Checkpoint
from export.variants import CaiTConfig, Variant
from pipelines.elements import StagedModel, StagedVariant
from pipelines.publish.validate import LoadedModels
from signatures import BOTH, Head

pytestmark = pytest.mark.slow


@pytest.fixture
def staged(tiny_config: CaiTConfig) -> StagedVariant:
    variant = Variant("cait_tiny", tiny_config, 0, 0.0, 70.0, 90.0, "x.pth")
    checkpoint = Checkpoint("x", "x", "0", True, tiny_config.num_classes)
    models = (StagedModel(variant, head, checkpoint, f"models/{head}", ()) for head in BOTH)
    return StagedVariant(tuple(models))


def test_a_variant_s_models_are_loaded_once(
    staged: StagedVariant, tiny_models: dict[Head, pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = LoadedModels()

    def each() -> list[object]:
        return [loaded.of(model, tiny_models[model.head]) for model in staged.models]

    first = each()
    loaded.keep_only(staged)
    assert each() == first
    # Another variant, or the same one of another run.
    paths = (dataclasses.replace(model, path=f"other/{model.path}") for model in staged.models)
    loaded.keep_only(StagedVariant(tuple(paths)))
    second = each()
    assert not set(second) & set(first)
    # One that is too large beside the reference and the next one.
    monkeypatch.setattr(pipelines.publish.validate, "_KEPT_BYTES", -1)
    loaded.keep_only(StagedVariant(()))
    third = each()
    assert not set(each()) & set(third)
