"""SavedModels for tf_keras, where nothing else is installed: neither this project nor the hub's."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest

from signatures import BOTH, Head
from tests.support.arrays import IMAGES

pytestmark = pytest.mark.slow

Array = npt.NDArray[np.float32]
Tensors = dict[str, Array]
Models = dict[Head, pathlib.Path]

KERAS_READER = r"""
import contextlib, importlib.util, io, json, pathlib, re, sys
from importlib import metadata

work, *directories = map(pathlib.Path, sys.argv[1:])
assert pathlib.Path.cwd() == work
for name in ("export", "signatures", "serving_configs", "pipelines"):
    assert importlib.util.find_spec(name) is None, f"{name} can be imported"

# Of all that is installed, only these two and what they require can be imported.
allowed, waiting = set(), ["tensorflow", "tf_keras"]
while waiting:
    name = re.match(r"[\w.-]+", waiting.pop())[0].lower().replace("_", "-")
    if name not in allowed:
        allowed.add(name)
        with contextlib.suppress(metadata.PackageNotFoundError):
            required = metadata.requires(name) or []
            waiting += [text for text in required if "extra ==" not in text]
owners = {
    module: {name.lower().replace("_", "-") for name in names}
    for module, names in metadata.packages_distributions().items()
}
refused = []


class Guard:
    def find_spec(self, name, path=None, target=None):
        if path is None and not owners.get(name, allowed) & allowed:
            refused.append(name)
            raise ModuleNotFoundError(f"{name} is not there", name=name)


sys.meta_path.insert(0, Guard())
with contextlib.suppress(ModuleNotFoundError):
    import tensorflow_hub
assert refused == ["tensorflow_hub"], refused

import numpy as np
import tf_keras

images = np.load(work / "images.npy")
facts = {}
for directory in directories:
    model = tf_keras.models.load_model(directory)
    called = model(images)
    predicted = model.predict(images, verbose=0)
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        model.summary(expand_nested=True, line_length=200)
    again = work / f"{directory.name} again"
    model.save(again)
    reloaded = tf_keras.models.load_model(again)(images)
    for kind, outputs in (("called", called), ("predicted", predicted), ("again", reloaded)):
        main, self_attention, class_attention = outputs
        np.savez(
            work / f"{directory.name} {kind}.npz",
            main=main,
            **{name: np.asarray(a) for name, a in {**self_attention, **class_attention}.items()},
        )
    assert type(called) is tuple, type(called)
    facts[directory.name] = {
        "name": model.name,
        "summary": text.getvalue(),
        "order": [list(called[1]), list(called[2])],
        "kernel": model.get_layer("sa_ffn_block_1_attn_qkv").kernel.numpy().tolist(),
        "parameters": model.count_params(),
        "layers": [layer.name for layer in model.layers],
    }
(work / "facts.json").write_text(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def read_by_keras(tiny_models: Models, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory with what tf_keras made of both models in a process without this project."""
    work = tmp_path_factory.mktemp("elsewhere")
    np.save(work / "images.npy", IMAGES)
    done = subprocess.run(
        # -I: neither the working directory nor PYTHONPATH is searched for modules.
        [sys.executable, "-I", "-c", KERAS_READER, str(work), *map(str, tiny_models.values())],
        cwd=work,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return work


@pytest.mark.parametrize("head", BOTH)
@pytest.mark.parametrize("kind", ["called", "predicted", "again"])
def test_keras_loads_it_without_this_project(
    kind: str, head: Head, read_by_keras: pathlib.Path, wanted: dict[str, Array]
) -> None:
    with np.load(read_by_keras / f"{head} {kind}.npz") as archive:
        found = dict(archive)
    np.testing.assert_allclose(found.pop("main"), wanted[head], rtol=0, atol=1e-5)
    assert set(found) == set(wanted) - set(BOTH)
    for name, attention in found.items():
        np.testing.assert_allclose(attention, wanted[name], rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("head", BOTH)
def test_keras_finds_the_parts_by_name(
    head: Head, read_by_keras: pathlib.Path, tiny_tensors: Tensors
) -> None:
    facts = json.loads((read_by_keras / "facts.json").read_text())[head]
    assert facts["name"] == ("tiny" if head == "classifier" else "tiny_fe")
    assert facts["order"] == [
        ["sa_ffn_block_0_att", "sa_ffn_block_1_att"],
        ["ca_ffn_block_0_att", "ca_ffn_block_1_att"],
    ]
    np.testing.assert_array_equal(
        np.array(facts["kernel"], np.float32), tiny_tensors["blocks.1.attn.qkv.weight"].T
    )
    sizes = {key: tensor.size for key, tensor in tiny_tensors.items()}
    if head == "features":
        del sizes["head.weight"], sizes["head.bias"]
    assert facts["parameters"] == sum(sizes.values())
    for name in (
        *("patch_embed", "pos_embed", "cls_token", "norm"),
        *("sa_ffn_block_0", "sa_ffn_block_1", "ca_ffn_block_0", "ca_ffn_block_1"),
    ):
        assert name in facts["layers"]
        assert f" {name} (" in facts["summary"]
    assert ("head" in facts["layers"]) == (head == "classifier")
    for name in ("attn_qkv", "attn_proj_l", "gamma_1", "mlp_fc1"):
        assert f" sa_ffn_block_1_{name} (" in facts["summary"], facts["summary"]
