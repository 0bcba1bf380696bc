"""Weights as trainers, wrappers and 16-bit runs leave them, in both formats."""

import argparse
import collections
import pathlib
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

from export.checkpoints.files import FileSource
from export.checkpoints.pth import PthTensors
from export.checkpoints.safetensors_file import LazyTensors
from export.checkpoints.sources import Checkpoint, open_checkpoint
from export.errors import CheckpointError
from export.variants import CaiTConfig, Variant
from tests.support.pth_file import Built, Call, Named, tensor, write

Tensors = dict[str, npt.NDArray[np.float32]]


class File:
    """What a `.pth` file holds: state dicts and other entries."""

    def __init__(self) -> None:
        self.members: dict[str, bytes] = {}

    def state(self, tensors: Tensors, prefix: str = "", dtype: str = "float32") -> Any:
        """A state dict whose tensors are stored in a type."""
        kinds = {"float32": "Float", "float16": "Half", "bfloat16": "BFloat16"}
        state = collections.OrderedDict()
        for key, array in tensors.items():
            name = str(len(self.members))
            stored = array.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
            state[prefix + key] = tensor(name, array.shape, kind=f"{kinds[dtype]}Storage")
            self.members[f"data/{name}"] = stored.tobytes()
        return state

    def write(self, path: pathlib.Path, content: object) -> pathlib.Path:
        return write(path, content, self.members)


@pytest.fixture
def averaged(tiny_tensors: Tensors) -> Tensors:
    return {key: array + np.float32(1) for key, array in tiny_tensors.items()}


@pytest.fixture
def opened(tiny_config: CaiTConfig) -> Callable[..., Checkpoint]:
    variant = Variant("tiny", tiny_config, 0, 0.0, 0.0, 0.0, "TINY_32.pth")

    def run(path: pathlib.Path, **named: Any) -> Checkpoint:
        return open_checkpoint(FileSource(str(path)), variant, pathlib.Path("/nowhere"), **named)

    return run


TRAINER = {
    "optimizer": {"state": {0: {"step": 3}}, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.99)}]},
    "lr_scheduler": {"t_in_epochs": True},
    "epoch": 29,
    "scaler": {"scale": 65536.0},
    "args": argparse.Namespace(model="cait_XXS24_224", lr=1e-4),
    "rng": Call(Named("numpy.core.multiarray", "scalar"), "f8", b"x"),
    "counts": collections.Counter(cats=3),
    "config": Call(Named("trainer.config", "Config"), {"lr": 1}),
}


@pytest.mark.parametrize(
    "place",
    ["", "model", "state_dict", "model_state_dict", "net.module", "ema_state_dict", "model_ema"],
)
def test_a_state_dict_is_found_beside_what_a_trainer_keeps(
    place: str, opened: Callable[..., Checkpoint], tiny_tensors: Tensors, tmp_path: pathlib.Path
) -> None:
    file = File()
    content: Any = file.state(tiny_tensors)
    for name in reversed(place.split(".") if place else ()):
        content = {name: content}
    if place:
        content = {**TRAINER, **content}
    file.write(tmp_path / "TINY_32.pth", content)
    checkpoint = opened(tmp_path, ask=True)
    assert checkpoint.notes == ((f"state dict {place!r} of a trainer's file",) if place else ())
    assert checkpoint.kind == ("ema" if "ema" in place else "model")
    tensors = checkpoint.tensors()
    assert set(tensors) == set(tiny_tensors)
    for key, array in tiny_tensors.items():
        np.testing.assert_array_equal(tensors[key], array)


def test_of_two_kinds_of_weights_one_has_to_be_named(
    opened: Callable[..., Checkpoint],
    tiny_tensors: Tensors,
    averaged: Tensors,
    tmp_path: pathlib.Path,
) -> None:
    file = File()
    content = {"state_dict": file.state(tiny_tensors), "state_dict_ema": file.state(averaged)}
    path = file.write(tmp_path / "TINY_32.pth", content)
    with pytest.raises(CheckpointError) as caught:
        opened(tmp_path, ask=True)
    assert str(caught.value) == (
        f"checkpoint {path}: it has weights as trained and averaged ones (state dict "
        "'state_dict_ema' of 'state_dict', 'state_dict_ema'); name one with --weights model or "
        "--weights ema"
    )
    for kind, wanted in (("model", tiny_tensors), ("ema", averaged), (None, averaged)):
        checkpoint = opened(tmp_path, kind=kind)
        assert checkpoint.kind == (kind or "ema")
        np.testing.assert_array_equal(checkpoint.tensors()["norm.bias"], wanted["norm.bias"])


def test_the_same_numbers_twice_are_no_choice(
    opened: Callable[..., Checkpoint], tiny_tensors: Tensors, tmp_path: pathlib.Path
) -> None:
    file = File()
    content = {"model": file.state(tiny_tensors), "model_ema": file.state(tiny_tensors)}
    file.write(tmp_path / "TINY_32.pth", content)
    (note,) = opened(tmp_path, ask=True).notes
    assert note == "state dict 'model_ema'; 'model', 'model_ema' hold the same numbers"


def test_weights_that_are_not_there_are_named(
    opened: Callable[..., Checkpoint], tiny_tensors: Tensors, tmp_path: pathlib.Path
) -> None:
    file = File()
    file.write(tmp_path / "TINY_32.pth", {"model": file.state(tiny_tensors)})
    with pytest.raises(CheckpointError, match="it has no averaged weights; found 'model'"):
        opened(tmp_path, kind="ema")
    content = {"model": file.state(tiny_tensors), "teacher": file.state(tiny_tensors)}
    file.write(tmp_path / "TINY_32.pth", content)
    with pytest.raises(CheckpointError, match="several state dicts, 'model', 'teacher'; expected"):
        opened(tmp_path)
    save_file(tiny_tensors, tmp_path / "tiny.safetensors")
    with pytest.raises(CheckpointError, match="one kind of weights; expected no --weights ema"):
        opened(tmp_path, kind="ema")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.model."])
def test_prefixes_of_all_keys_are_removed(
    prefix: str,
    suffix: str,
    opened: Callable[..., Checkpoint],
    tiny_tensors: Tensors,
    tmp_path: pathlib.Path,
) -> None:
    if suffix == "pth":
        file = File()
        file.write(tmp_path / "TINY_32.pth", file.state(tiny_tensors, prefix))
    else:
        whole = {prefix + key: array for key, array in tiny_tensors.items()}
        save_file(whole, tmp_path / "tiny.safetensors")
    checkpoint = opened(tmp_path)
    assert checkpoint.notes == (f"prefix {prefix!r} removed from all keys",)
    assert set(checkpoint.tensors()) == set(tiny_tensors)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_numbers_are_widened_without_loss(
    dtype: str,
    suffix: str,
    opened: Callable[..., Checkpoint],
    tiny_tensors: Tensors,
    tmp_path: pathlib.Path,
) -> None:
    stored = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float16
    narrow = {key: array.astype(stored) for key, array in tiny_tensors.items()}
    if suffix == "pth":
        file = File()
        file.write(tmp_path / "TINY_32.pth", file.state(tiny_tensors, dtype=dtype))
    else:
        save_file(narrow, tmp_path / "tiny.safetensors")
    checkpoint = opened(tmp_path)
    assert checkpoint.notes == (f"{dtype} widened to float32",)
    tensors = checkpoint.tensors()
    for key, array in narrow.items():
        assert tensors[key].dtype == np.float32
        np.testing.assert_array_equal(tensors[key], array.astype(np.float32))


def test_what_is_inert_keeps_and_runs_nothing(
    tiny_tensors: Tensors, tmp_path: pathlib.Path
) -> None:
    victim = tmp_path / "victim"
    victim.touch()
    attack = Call(Named("os", "unlink"), str(victim))
    file = File()
    content = {
        "model": file.state(tiny_tensors),
        "state": Built(Call(Named("trainer", "Config")), {"code": attack}),
        "list": collections.OrderedDict(items=[attack, attack]),
        "called": Call(attack, str(victim)),
    }
    assert set(PthTensors(str(file.write(tmp_path / "a.pth", content)))) == set(tiny_tensors)
    assert victim.exists()
    # Nothing of it is taken for a tensor.
    state = file.state(tiny_tensors)
    state["norm.bias"] = Call(Named("trainer", "rebuild"), state["norm.bias"])
    with pytest.raises(CheckpointError, match=r"its pickle uses trainer\.rebuild; expected"):
        PthTensors(str(file.write(tmp_path / "b.pth", {"model": state})))
    whole = {"model": Call(Named("timm.models.cait", "Cait"))}
    with pytest.raises(CheckpointError, match=r"its pickle uses timm\.models\.cait\.Cait; exp"):
        PthTensors(str(file.write(tmp_path / "c.pth", whole)))


def test_safetensors_are_read_by_their_whole_keys(
    tiny_tensors: Tensors, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "a.safetensors"
    save_file({f"module.{key}": array for key, array in tiny_tensors.items()}, path)
    tensors = LazyTensors(str(path))
    with pytest.raises(KeyError):
        tensors["module.norm.bias"]
    np.testing.assert_array_equal(tensors["norm.bias"], tiny_tensors["norm.bias"])


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "best.pth", "last.pt"])
@pytest.mark.parametrize("given", ["directory", "file"])
def test_files_that_are_named_after_no_variant(
    given: str,
    name: str,
    opened: Callable[..., Checkpoint],
    tiny_tensors: Tensors,
    tmp_path: pathlib.Path,
) -> None:
    if name.endswith(".safetensors"):
        save_file(tiny_tensors, tmp_path / name)
    else:
        file = File()
        file.write(tmp_path / name, file.state(tiny_tensors))
    (tmp_path / "config.json").write_text('{"architecture": "tiny.fb_dist_in1k"}')
    checkpoint = opened(tmp_path if given == "directory" else tmp_path / name)
    assert checkpoint.path == str(tmp_path / name)


def test_a_configuration_of_another_architecture_is_refused(
    opened: Callable[..., Checkpoint], tiny_tensors: Tensors, tmp_path: pathlib.Path
) -> None:
    save_file(tiny_tensors, tmp_path / "model.safetensors")
    config = tmp_path / "config.json"
    config.write_text('{"architecture": "cait_s24_224"}')
    with pytest.raises(
        CheckpointError, match=r"config\.json is of 'cait_s24_224'; expected 'tiny'"
    ):
        opened(tmp_path)
    config.write_text("[")
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        opened(tmp_path)
    config.unlink()
    # Two files of weights leave it open which is meant.
    for name in ("one.pth", "two.pth"):
        (tmp_path / name).write_bytes((tmp_path / "model.safetensors").read_bytes())
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no file tiny\.safetensors or TINY_32\.pth there"):
        opened(tmp_path)
