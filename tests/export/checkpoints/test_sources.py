"""Reading checkpoints: good ones of every kind, and each thing that is wrong with a bad one."""

import hashlib
import pathlib
import re
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy

from export.checkpoints.files import FileSource
from export.checkpoints.safetensors_file import LazyTensors
from export.checkpoints.sizes import fit_to_size
from export.checkpoints.sources import (
    Checkpoint,
    CheckpointSource,
    RandomSource,
    checkpoint_source,
    open_checkpoint,
    write_random_checkpoint,
)
from export.errors import CheckpointError, UserError
from export.variants import VARIANTS, CaiTConfig, Variant

Tensors = dict[str, npt.NDArray[np.float32]]


@pytest.fixture(scope="module")
def variant(tiny_config: CaiTConfig) -> Variant:
    return Variant("tiny", tiny_config, 0, 0.0, 0.0, 0.0, "")


@pytest.fixture
def write(tmp_path: pathlib.Path) -> Callable[..., pathlib.Path]:
    """Writes tensors as the tiny variant's checkpoint and returns the file."""

    def write(tensors: dict[str, npt.NDArray[np.generic]], folder: str = ".") -> pathlib.Path:
        path = tmp_path / folder / "tiny.safetensors"
        path.parent.mkdir(exist_ok=True)
        safetensors.numpy.save_file(tensors, path)
        return path

    return write


def opened(path: pathlib.Path | str, variant: Variant) -> Checkpoint:
    return open_checkpoint(FileSource(str(path)), variant, pathlib.Path("/nowhere"))


def refusal(path: pathlib.Path | str, variant: Variant) -> str:
    with pytest.raises(CheckpointError) as caught:
        opened(path, variant)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_good_checkpoint_is_described(
    write: Callable[..., pathlib.Path], variant: Variant, tiny_tensors: Tensors
) -> None:
    path = write(tiny_tensors)
    checkpoint = opened(path.parent, variant)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert checkpoint == Checkpoint(str(path), str(path), digest, True, 10, image_size=32)


def test_tensors_are_read_when_they_are_looked_up(
    write: Callable[..., pathlib.Path], variant: Variant, tiny_tensors: Tensors
) -> None:
    tensors = opened(write(tiny_tensors), variant).tensors()
    assert set(tensors) == set(tiny_tensors)
    assert len(tensors) == len(tiny_tensors)
    assert tensors.shapes == {key: tensor.shape for key, tensor in tiny_tensors.items()}
    for key, tensor in tiny_tensors.items():
        assert tensors[key].dtype == np.float32
        np.testing.assert_array_equal(tensors[key], tensor)
    # Nothing is kept: each look-up is another array.
    assert tensors["head.weight"] is not tensors["head.weight"]
    with pytest.raises(KeyError, match="no such"):
        tensors["no such"]
    assert "no such" not in tensors


def test_half_precision_is_widened(
    write: Callable[..., pathlib.Path], variant: Variant, tiny_tensors: Tensors
) -> None:
    half = {key: tensor.astype(np.float16) for key, tensor in tiny_tensors.items()}
    tensors = opened(write(half), variant).tensors()
    for key, tensor in half.items():
        assert tensors[key].dtype == np.float32
        np.testing.assert_array_equal(tensors[key], tensor.astype(np.float32))


@pytest.mark.parametrize("where", ["directory", "file", "glob"])
def test_a_directory_a_file_and_a_glob_lead_to_it(
    where: str, write: Callable[..., pathlib.Path], variant: Variant, tiny_tensors: Tensors
) -> None:
    path = write(tiny_tensors, "one")
    # Of another variant, beside it: a source is asked for one variant at a time.
    (path.parent / "cait_s24_224.safetensors").write_bytes(b"")
    value = {
        "directory": str(path.parent),
        "file": str(path),
        "glob": str(path.parents[1] / "*" / "*.safetensors"),
    }[where]
    source = checkpoint_source(value)
    assert source.trained
    assert open_checkpoint(source, variant, path.parent).path == str(path)


def test_random_is_a_source_of_its_own(
    variant: Variant, tiny_tensors: Tensors, tmp_path: pathlib.Path
) -> None:
    source: CheckpointSource = checkpoint_source("random")
    assert source == RandomSource()
    checkpoint = open_checkpoint(source, variant, tmp_path / "new")
    assert (checkpoint.source, checkpoint.trained) == ("random", False)
    assert checkpoint.path == str(tmp_path / "new" / "tiny.safetensors")
    tensors = checkpoint.tensors()
    assert set(tensors) == set(tiny_tensors)
    for key, tensor in tiny_tensors.items():
        np.testing.assert_array_equal(tensors[key], tensor)


def test_random_weights_of_a_real_variant(checkpoint_of: Callable[[str], Checkpoint]) -> None:
    checkpoint = checkpoint_of("cait_xxs24_224")
    assert sum(t.size for t in checkpoint.tensors().values()) == 11_956_264
    assert checkpoint_of("cait_xxs24_224") is checkpoint


@pytest.mark.parametrize("value", ["", "empty", "*.safetensors", "nowhere"])
def test_a_missing_file_is_named(value: str, variant: Variant, tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty").mkdir()
    pattern = str(tmp_path / value)
    assert refusal(pattern, variant) == (
        f"--checkpoints {pattern}: no file tiny.safetensors there, nor any other; "
        "expected a directory or a glob that contains it, 'hf' or 'random'"
    )


def test_a_directory_of_that_name_is_no_file(variant: Variant, tmp_path: pathlib.Path) -> None:
    (tmp_path / "tiny.safetensors").mkdir()
    assert "no file tiny.safetensors there" in refusal(tmp_path, variant)


def test_an_ambiguous_glob_is_refused(
    write: Callable[..., pathlib.Path], variant: Variant, tiny_tensors: Tensors
) -> None:
    paths = [write(tiny_tensors, folder) for folder in ("a", "b", "c")]
    pattern = str(paths[0].parents[1] / "*" / "tiny.safetensors")
    assert refusal(pattern, variant) == (
        f"--checkpoints {pattern}: 3 files named tiny.safetensors, among them "
        f"{paths[0]} and {paths[1]}; expected one"
    )


@pytest.mark.parametrize("damage", ["empty", "cut in the header", "cut in the data", "longer"])
def test_a_damaged_file_is_refused(
    damage: str, write: Callable[..., pathlib.Path], variant: Variant, tiny_tensors: Tensors
) -> None:
    path = write(tiny_tensors)
    content = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "cut in the header": content[:100],
            "cut in the data": content[:-1],
            "longer": content + b"\0",
        }[damage]
    )
    message = refusal(path, variant)
    assert re.fullmatch(
        rf"checkpoint {re.escape(str(path))}: not a complete safetensors file \(.+\); "
        "download or write it again",
        message,
    )


@pytest.mark.parametrize(
    "content",
    [b"certainly no safetensors", b"PK\x03\x04" + b"\0" * 100, b"<!DOCTYPE html>\n<html>\n" * 9],
    ids=["text", "PyTorch's zip", "a web page"],
)
def test_a_file_of_another_format_is_refused(
    content: bytes, variant: Variant, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "tiny.safetensors"
    path.write_bytes(content)
    assert f"checkpoint {path}: not a complete safetensors file" in refusal(path, variant)


def test_a_file_that_went_away_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match="not a complete safetensors file"):
        LazyTensors(str(tmp_path / "gone.safetensors"))


def test_a_checkpoint_of_another_variant_is_refused(
    checkpoint_of: Callable[[str], Checkpoint], tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "cait_xxs36_224.safetensors"
    path.symlink_to(checkpoint_of("cait_xxs24_224").path)
    assert refusal(path, VARIANTS["cait_xxs36_224"]).startswith(
        f"checkpoint {path} for cait_xxs36_224: missing tensor 'blocks.24.norm1.weight'; "
    )
    # The same network at another resolution: all but the positions fit.
    path = tmp_path / "cait_xxs24_384.safetensors"
    path.symlink_to(checkpoint_of("cait_xxs24_224").path)
    variant = VARIANTS["cait_xxs24_384"]
    with pytest.raises(CheckpointError, match="positions are of images of 224 pixels, as those of"):
        fit_to_size(variant, opened(path, variant))


def test_a_missing_tensor_is_named(
    write: Callable[..., pathlib.Path], variant: Variant, tiny_tensors: Tensors
) -> None:
    path = write({key: t for key, t in tiny_tensors.items() if key != "blocks.1.gamma_2"})
    assert refusal(path, variant) == (
        f"checkpoint {path} for tiny: missing tensor 'blocks.1.gamma_2'; expected shape (16,)"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(
    value: float, write: Callable[..., pathlib.Path], variant: Variant, tiny_tensors: Tensors
) -> None:
    bad = tiny_tensors["blocks.1.mlp.fc2.weight"].copy()
    bad[3, 5] = bad[-1, -1] = value
    path = write({**tiny_tensors, "blocks.1.mlp.fc2.weight": bad})
    assert refusal(path, variant) == (
        f"checkpoint {path}: tensor 'blocks.1.mlp.fc2.weight' has 2 numbers that are not finite; "
        "expected none"
    )


@pytest.mark.parametrize(("dtype", "name"), [(np.int32, "I32"), (np.float64, "F64")])
def test_other_types_are_refused(
    dtype: type[np.generic],
    name: str,
    write: Callable[..., pathlib.Path],
    variant: Variant,
    tiny_tensors: Tensors,
) -> None:
    path = write({**tiny_tensors, "head.bias": tiny_tensors["head.bias"].astype(dtype)})
    assert refusal(path, variant) == (
        f"checkpoint {path}: tensor 'head.bias' is of type {name}; expected one of F32, F16, BF16"
    )


def test_a_refusal_is_the_user_s_to_mend() -> None:
    assert issubclass(CheckpointError, UserError)


def test_random_weights_are_recognised_in_a_file_too(
    variant: Variant, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "anywhere" / "tiny.safetensors"
    write_random_checkpoint(variant, path)
    assert not opened(path.parent, variant).trained
