"""What a served and a loaded model say of a photograph: the maps and classes of the reference."""

import pathlib
from typing import Any

import numpy as np
import pytest

from export.reference import forward_pass as reference
from export.reference import preprocessing as reference_preprocessing
from export.variants import CaiTConfig
from serving.attention.loaded import loaded_model
from serving.attention.maps import patch_attention_maps
from serving.attention.photograph import read_photograph
from serving.attention.served import served_model
from tests.support.arrays import Tensors
from tests.support.attention_maps import seeds_maps, seeds_saliency
from tests.support.model_server import Running, running
from tests.support.trees import convert_version

pytestmark = pytest.mark.slow

PHOTOS = ("cat.jpg", "portrait_tall.jpg", "cat_alpha.png")
WITHIN: Any = {"rtol": 0, "atol": 1e-5}


@pytest.mark.parametrize("photo", PHOTOS)
@pytest.mark.parametrize("source", ["server", "directory"])
def test_every_map_is_that_of_the_reference(
    served: Running,
    tiny_models: dict[Any, pathlib.Path],
    tiny_tensors: Any,
    data: pathlib.Path,
    photo: str,
    source: str,
) -> None:
    encoded = (data / "photos" / photo).read_bytes()
    images = reference_preprocessing.normalize(reference_preprocessing.load_pixels(encoded, 32))
    wanted_self: dict[int, Any] = {}
    wanted = reference.forward(tiny_tensors, images[None], wanted_self.__setitem__)
    opened = (
        served_model(f"localhost:{served.port}", "cait")
        if source == "server"
        else loaded_model(tiny_models["classifier"])
    )
    with opened as model:
        photograph = read_photograph(encoded, model.image_size)
        result = model.explain(photograph)
        found_self = [model.self_attention(photograph, block) for block in range(2)]
        assert model.self_attention_blocks() == 2
    assert len(result.maps) == 2
    for maps, scores in zip(result.maps, wanted.class_attention, strict=True):
        assert maps.shape == (2, 2, 2)
        np.testing.assert_allclose(maps, seeds_maps(scores), **WITHIN)
    np.testing.assert_allclose(
        result.saliency, seeds_saliency(wanted.class_attention[0], 32), **WITHIN
    )
    for block, attention_of_block in enumerate(found_self):
        for row, column in np.ndindex(2, 2):
            np.testing.assert_allclose(
                patch_attention_maps(attention_of_block, row, column),
                wanted_self[block][0, :, 2 * row + column].reshape(2, 2, 2),
                **WITHIN,
            )
    assert wanted.logits is not None
    assert result.best is not None
    best = np.argsort(-wanted.logits[0])[:5]
    assert [label for label, _ in result.best] == [f"class {number}" for number in best]
    powers = np.exp(wanted.logits[0])
    np.testing.assert_allclose(
        [probability for _, probability in result.best], (powers / powers.sum())[best], **WITHIN
    )


def test_classes_of_one_s_own_have_their_names(
    tiny_config: CaiTConfig,
    tiny_tensors: Tensors,
    data: pathlib.Path,
    tmp_path: pathlib.Path,
) -> None:
    labels = tuple(f"animal {number}" for number in range(10))
    convert_version(tmp_path / "zoo" / "1", tiny_config, tiny_tensors, labels)
    encoded = (data / "photos" / "cat.jpg").read_bytes()
    images = reference_preprocessing.normalize(reference_preprocessing.load_pixels(encoded, 32))
    logits = reference.forward(tiny_tensors, images[None]).logits
    assert logits is not None
    expected = [labels[number] for number in np.argsort(-logits[0])[:5]]
    with running(model_name="zoo", model_base_path=str(tmp_path / "zoo")) as server:
        for opened in (
            served_model(f"localhost:{server.port}", "zoo"),
            loaded_model(tmp_path / "zoo" / "1"),
        ):
            with opened as model:
                best = model.explain(read_photograph(encoded, model.image_size)).best
            assert best is not None
            assert [label for label, _ in best] == expected
