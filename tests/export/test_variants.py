"""The table of variants, and the configurations that are refused."""

import json
import math
import pathlib
from typing import Any

import pytest

from export.errors import UserError
from export.variants import VARIANTS, CaiTConfig, find_variant, get_variant
from export.weights import expected_shapes

# Table 1 of the paper with timm's names, written a second time: image size, embedding size, heads,
# self-attention blocks, initial LayerScale.
ARCHITECTURE = {
    "cait_xxs24_224": (224, 192, 4, 24, 1e-5),
    "cait_xxs24_384": (384, 192, 4, 24, 1e-5),
    "cait_xxs36_224": (224, 192, 4, 36, 1e-5),
    "cait_xxs36_384": (384, 192, 4, 36, 1e-5),
    "cait_xs24_384": (384, 288, 6, 24, 1e-5),
    "cait_s24_224": (224, 384, 8, 24, 1e-5),
    "cait_s24_384": (384, 384, 8, 24, 1e-5),
    "cait_s36_384": (384, 384, 8, 36, 1e-6),
    "cait_m36_384": (384, 768, 16, 36, 1e-6),
    "cait_m48_448": (448, 768, 16, 48, 1e-6),
}
VALID: dict[str, Any] = {
    "image_size": 32,
    "patch_size": 16,
    "embed_dim": 16,
    "heads": 2,
    "sa_blocks": 2,
}


def test_there_are_ten_variants_of_the_published_architecture() -> None:
    found = {
        name: (
            variant.config.image_size,
            variant.config.embed_dim,
            variant.config.heads,
            variant.config.sa_blocks,
            variant.config.layer_scale_init,
        )
        for name, variant in VARIANTS.items()
    }
    assert found == ARCHITECTURE
    assert list(found) == list(ARCHITECTURE)


@pytest.mark.parametrize("name", ARCHITECTURE)
def test_the_rest_of_a_configuration_is_the_same_in_every_variant(name: str) -> None:
    config = VARIANTS[name].config
    assert (config.patch_size, config.ca_blocks, config.num_classes) == (16, 2, 1000)
    assert (config.dropout_rate, config.drop_path_rate) == (0.0, 0.0)
    assert not config.acts_in_training
    # In all published variants a head is 48 wide.
    assert config.embed_dim == 48 * config.heads
    assert config.patches == (ARCHITECTURE[name][0] // 16) ** 2


@pytest.mark.parametrize("name", ARCHITECTURE)
def test_parameters_are_those_of_the_tensors_and_of_timm(name: str, data: pathlib.Path) -> None:
    variant = VARIANTS[name]
    shapes = expected_shapes(variant.config)
    assert variant.parameters == sum(math.prod(shape) for shape in shapes.values())
    golden = json.loads((data / "golden" / "info.json").read_text())[name]
    assert (variant.parameters, len(shapes)) == (golden["params"], golden["tensors"])


def test_published_figures_are_plausible_and_in_the_order_of_size() -> None:
    for variant in VARIANTS.values():
        assert 75 < variant.top1 < variant.top5 < 100
    # A larger image of the same network costs more and scores better, as does a deeper network.
    for less, more in (
        ("cait_xxs24_224", "cait_xxs24_384"),
        ("cait_xxs24_224", "cait_xxs36_224"),
        ("cait_xxs24_384", "cait_xxs36_384"),
        ("cait_xxs36_224", "cait_xxs36_384"),
        ("cait_xxs36_384", "cait_xs24_384"),
        ("cait_s24_224", "cait_s24_384"),
        ("cait_s24_384", "cait_s36_384"),
        ("cait_s36_384", "cait_m36_384"),
        ("cait_m36_384", "cait_m48_448"),
    ):
        assert VARIANTS[less].top1 < VARIANTS[more].top1
        assert VARIANTS[less].flops_g < VARIANTS[more].flops_g


@pytest.mark.parametrize("name", ARCHITECTURE)
def test_names_and_sources(name: str) -> None:
    variant = VARIANTS[name]
    assert variant.name == name
    assert variant.model_name("classifier") == name
    assert variant.model_name("features") == f"{name}_fe"
    assert variant.hub_repository == f"timm/{name}.fb_dist_in1k"
    _, size, resolution = name.split("_")
    assert variant.deit_file == f"{size.upper()}_{resolution}.pth"
    assert int(resolution) == variant.config.image_size


def test_a_variant_is_found_by_its_name() -> None:
    assert get_variant("cait_s24_384") is VARIANTS["cait_s24_384"]


def test_a_near_name_is_suggested() -> None:
    with pytest.raises(UserError) as caught:
        get_variant("cait_m48_384")
    message = str(caught.value)
    assert message.startswith("unknown variant 'cait_m48_384'; did you mean ")
    assert "cait_m48_448" in message
    assert "cait_m36_384" in message
    assert "cait_xxs24_224" not in message


def test_for_a_name_like_no_other_all_are_listed() -> None:
    with pytest.raises(UserError) as caught:
        get_variant("resnet")
    message = str(caught.value)
    assert message.startswith("unknown variant 'resnet'; one of ")
    assert all(name in message for name in ARCHITECTURE)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image_size": 0}, "image_size is 0; it has to be at least 1"),
        ({"patch_size": 0}, "patch_size is 0; it has to be at least 1"),
        ({"embed_dim": -16}, "embed_dim is -16; it has to be at least 1"),
        ({"heads": 0}, "heads is 0; it has to be at least 1"),
        ({"sa_blocks": 0}, "sa_blocks is 0; it has to be at least 1"),
        ({"ca_blocks": 0}, "ca_blocks is 0; it has to be at least 1"),
        ({"num_classes": -1}, "num_classes is -1; it has to be at least 0"),
        ({"dropout_rate": -0.1}, "dropout_rate is -0.1; it has to be in [0, 1)"),
        ({"dropout_rate": 1.0}, "dropout_rate is 1.0; it has to be in [0, 1)"),
        ({"drop_path_rate": 1.0}, "drop_path_rate is 1.0; it has to be in [0, 1)"),
        ({"drop_path_rate": float("nan")}, "drop_path_rate is nan; it has to be in [0, 1)"),
        ({"image_size": 40}, "image_size 40 is not a multiple of patch_size 16"),
        ({"image_size": 8}, "image_size 8 is not a multiple of patch_size 16"),
        ({"heads": 3}, "embed_dim 16 is not a multiple of heads 3"),
    ],
    ids=str,
)
def test_impossible_configurations_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared.
        CaiTConfig(**{**VALID, **changed})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("changed", "acts"),
    [({}, False), ({"dropout_rate": 0.1}, True), ({"drop_path_rate": 0.999}, True)],
    ids=str,
)
def test_rates_act_in_training(changed: dict[str, Any], acts: bool) -> None:
    assert CaiTConfig(**VALID, **changed).acts_in_training is acts


def test_geometry_has_the_sizes_of_the_configuration() -> None:
    config = CaiTConfig(48, 8, 12, 3, 5, ca_blocks=1, num_classes=7)
    geometry = config.geometry
    assert (geometry.image_size, geometry.patches) == (48, 36)
    assert (geometry.heads, geometry.embed_dim, geometry.num_classes) == (3, 12, 7)
    assert (geometry.sa_blocks, geometry.ca_blocks) == (5, 1)


def test_a_variant_is_found_by_its_name_at_another_size() -> None:
    assert find_variant("cait_s24_384") is VARIANTS["cait_s24_384"]
    assert find_variant("cait_s24_512") == VARIANTS["cait_s24_224"].at_size(512)
    for name in ("cait_s24_500", "cait_s24_0", "cait_s25_512", "cait_s24", "cait_s24_x"):
        with pytest.raises(UserError, match=f"unknown variant '{name}'"):
            find_variant(name)
