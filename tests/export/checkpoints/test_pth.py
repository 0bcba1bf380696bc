"""Reading `.pth` files: one that PyTorch wrote, and everything that a bad one may ask for."""

import collections
import copyreg
import pathlib
import pickle
import subprocess
import sys
import zipfile
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from export.checkpoints.files import FileSource
from export.checkpoints.pth import PthTensors
from export.checkpoints.sources import Checkpoint, open_checkpoint
from export.errors import CheckpointError
from export.variants import CaiTConfig, Variant
from tests.support.pth_file import REBUILD, Call, Named, Pickler, tensor, write, write_tensors

Tensors = dict[str, npt.NDArray[np.float32]]


def refusal(path: pathlib.Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        PthTensors(str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"checkpoint {path}: ")
    return message.removeprefix(f"checkpoint {path}: ")


@pytest.fixture(scope="module")
def variant(tiny_config: CaiTConfig) -> Variant:
    return Variant("tiny", tiny_config, 0, 0.0, 0.0, 0.0, "TINY_32.pth")


def opened(path: pathlib.Path, variant: Variant) -> Checkpoint:
    return open_checkpoint(FileSource(str(path)), variant, pathlib.Path("/nowhere"))


def test_a_file_that_pytorch_wrote(data: pathlib.Path) -> None:
    tensors = PthTensors(str(data / "tiny.pth"))
    # As `make_pth.py` says. The prefix goes from the beginnings alone.
    wanted: dict[str, Any] = {
        "weight": np.arange(6).reshape(2, 3) / 8,
        "bias": [-1.5, 2.25],
        "part.module.weight": np.arange(4, 16).reshape(3, 4).T,
        "half": [0.5, -65504.0],
        "scalar": 23.0,
        "parameter.grad": [[1.0], [1.0]],
    }
    assert list(tensors) == list(wanted)
    assert len(tensors) == len(wanted)
    for key, array in wanted.items():
        assert tensors[key].dtype == np.float32
        assert tensors[key].shape == tensors.shapes[key] == np.shape(array)
        np.testing.assert_array_equal(tensors[key], array)
    assert tensors["weight"] is not tensors["weight"]
    with pytest.raises(KeyError, match="no such"):
        tensors["no such"]


def test_the_format_before_1_6_is_refused_with_the_way_out(data: pathlib.Path) -> None:
    assert refusal(data / "tiny-old-format.pth") == (
        "it is in the format of PyTorch before 1.6; write it anew with PyTorch: "
        "torch.save(torch.load(path, map_location='cpu', weights_only=True), path)"
    )


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_checkpoint_of_deit_is_found_and_read(
    prefix: str, variant: Variant, tiny_tensors: Tensors, tmp_path: pathlib.Path
) -> None:
    path = write_tensors(tmp_path / "TINY_32.pth", tiny_tensors, prefix)
    checkpoint = opened(tmp_path, variant)
    assert (checkpoint.path, checkpoint.trained) == (str(path), True)
    tensors = checkpoint.tensors()
    assert set(tensors) == set(tiny_tensors)
    for key, array in tiny_tensors.items():
        np.testing.assert_array_equal(tensors[key], array)


def test_safetensors_come_first(
    variant: Variant, tiny_tensors: Tensors, tmp_path: pathlib.Path
) -> None:
    from safetensors.numpy import save_file

    write_tensors(tmp_path / "TINY_32.pth", tiny_tensors)
    save_file(tiny_tensors, tmp_path / "tiny.safetensors")
    assert opened(tmp_path, variant).path == str(tmp_path / "tiny.safetensors")


def test_its_tensors_are_checked_like_any(
    variant: Variant, tiny_tensors: Tensors, tmp_path: pathlib.Path
) -> None:
    path = write_tensors(
        tmp_path / "TINY_32.pth", {k: v for k, v in tiny_tensors.items() if k != "head.bias"}
    )
    with pytest.raises(CheckpointError) as caught:
        opened(tmp_path, variant)
    assert str(caught.value) == (
        f"checkpoint {path} for tiny: missing tensor 'head.bias'; expected shape (10,)"
    )


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "posix.system",
        "builtins.eval",
        "builtins.getattr",
        "argparse.Namespace",
        "collections.Counter",
        "torch.load",
        "torch.storage._load_from_bytes",
        "torch._utils._rebuild_parameter",
        "torch.FloatStorage.__class__",
        "numpy.core.multiarray._reconstruct",
    ],
)
def test_whatever_else_a_pickle_asks_for_is_refused_by_name(
    name: str, tmp_path: pathlib.Path
) -> None:
    victim = tmp_path / "victim"
    victim.touch()
    module, _, function = name.rpartition(".")
    attack = Call(Named(module, function), f"rm {victim}")
    path = write(tmp_path / "bad.pth", {"model": {"a": tensor("0", (1,)), "b": attack}})
    assert refusal(path) == (
        f"its pickle uses {name}; expected tensors only. Nothing in it was run"
    )
    assert victim.exists()


def test_the_attack_of_these_tests_is_one(tmp_path: pathlib.Path) -> None:
    # Read as Python's own reader does it, in a process of its own.
    victim = tmp_path / "victim"
    victim.touch()
    path = write(tmp_path / "bad.pth", Call(Named("os", "unlink"), str(victim)))
    script = (
        "import pickle, sys, zipfile\n"
        "pickle.loads(zipfile.ZipFile(sys.argv[1]).read('archive/data.pkl'))"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    assert not victim.exists()


def test_an_extension_code_is_no_way_round(tmp_path: pathlib.Path) -> None:
    copyreg.add_extension("os", "getcwd", 240)
    try:
        path = write(tmp_path / "bad.pth", pickle.PROTO + b"\x02" + pickle.EXT1 + b"\xf0.")
        # Python asks for a registered name as for any other.
        assert "its pickle uses os.getcwd" in refusal(path)
    finally:
        copyreg.remove_extension("os", "getcwd", 240)


def build(target: object, state: object) -> bytes:
    """A pickle that sets attributes of what it named."""
    import io

    file = io.BytesIO()
    pickler = Pickler(file, 2)
    pickler.write(pickle.PROTO + b"\x02")
    pickler.save(target)
    pickler.save(state)
    pickler.write(pickle.BUILD + pickle.STOP)
    return file.getvalue()


@pytest.mark.parametrize("slots", [False, True])
@pytest.mark.parametrize(
    "target",
    [
        REBUILD,
        Named("torch", "FloatStorage"),
        Named("collections", "OrderedDict"),
        tensor("0", (1,)),
    ],
    ids=["function", "storage type", "class", "tensor"],
)
def test_nothing_that_may_be_named_can_be_changed(
    target: object, slots: bool, tmp_path: pathlib.Path
) -> None:
    state = {"__call__": "changed", "shape": (9,)}
    path = write(tmp_path / "bad.pth", build(target, (None, state) if slots else state))
    assert "its pickle cannot be read" in refusal(path)
    assert not hasattr(collections.OrderedDict, "shape")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "its pickle cannot be read (EOFError"),
        (b"\x80\x02}q\x00", "its pickle cannot be read"),
        ([1, 2], "it holds list; expected a dictionary of tensors"),
        ({}, "it holds dict; expected a dictionary of tensors"),
        ({"model": 3}, "it holds int; expected a dictionary of tensors"),
        ({"epoch": 3}, "entry 'epoch' is int; expected a tensor"),
        ({3: tensor("0", (2,))}, "entry 3 is Tensor; expected a tensor"),
        (
            {"a": tensor("0", (2,)), "module.a": tensor("0", (2,))},
            "tensor 'a' is there twice, with and without 'module'",
        ),
        (
            {"a": tensor("0", (2,), kind="LongStorage")},
            "tensor 'a' is of type torch.LongStorage; expected one of torch.FloatStorage, "
            "torch.HalfStorage",
        ),
        ({"a": tensor("1", (2,))}, "tensor 'a': its storage '1' is not there; expected 8 bytes"),
        ({"a": tensor("0", (3,))}, "tensor 'a': its storage '0' has 8 bytes; expected 12 bytes"),
        (
            {"a": tensor("0", (2,), offset=1)},
            "tensor 'a' reaches beyond its storage of 2 numbers",
        ),
        (
            {"a": tensor("0", (2,), strides=(2,))},
            "tensor 'a' reaches beyond its storage of 2 numbers",
        ),
        ({"a": tensor("0", (2,), offset=-1)}, "its pickle cannot be read (ValueError: a tensor's"),
        ({"a": tensor("0", (2,), strides=(-1,))}, "its pickle cannot be read (ValueError"),
        ({"a": tensor("0", (2,), strides=(1, 1))}, "its pickle cannot be read (ValueError"),
        ({"a": Call(Named("torch", "FloatStorage"))}, "its pickle cannot be read (TypeError"),
    ],
)
def test_a_pickle_that_does_not_describe_tensors_is_refused(
    content: object, message: str, tmp_path: pathlib.Path
) -> None:
    path = write(tmp_path / "bad.pth", content, {"data/0": b"\0" * 8})
    assert refusal(path).startswith(message)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "compressed", "no pickle", "gone"])
def test_a_damaged_file_is_refused(
    damage: str, tiny_tensors: Tensors, tmp_path: pathlib.Path
) -> None:
    path = write_tensors(tmp_path / "bad.pth", tiny_tensors)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
    elif damage == "compressed":
        write(path, {"a": tensor("0", (2,))}, {"data/0": b"\0" * 8}, zipfile.ZIP_DEFLATED)
    elif damage == "no pickle":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/version", b"3\n")
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "text": b"certainly no archive"}[damage])
    assert refusal(path).startswith("not a complete file of torch.save (")


def test_big_endian_storages_are_read(tmp_path: pathlib.Path) -> None:
    wanted = np.array([1.5, -2.0], ">f4")
    path = write(
        tmp_path / "big.pth",
        {"a": tensor("0", (2,))},
        {"data/0": wanted.tobytes(), "byteorder": b"big"},
    )
    np.testing.assert_array_equal(PthTensors(str(path))["a"], wanted)
