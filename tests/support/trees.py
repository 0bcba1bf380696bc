"""Published trees: of a tiny variant, and what tests change in them."""

import dataclasses
import pathlib
import shutil
import time
from collections.abc import Callable
from unittest import mock

from export.compute import DEFAULT, Compute
from export.variants import VARIANTS, CaiTConfig, Variant
from serving_configs import MANIFEST, Manifest, Weights, base_path, contract_digest, record_files
from serving_configs.rollout.history import read_history, write_history
from serving_configs.server.models_config import models_config_path, read_models_config
from serving_configs.tree.manifest import load_manifest, render_manifest
from signatures import Head
from signatures.untrained import mark_untrained
from tests.support.arrays import Tensors
from tests.support.conversions import conversions_reused, convert_once

TINY = "cait_tiny_32"
MODELS = (TINY, f"{TINY}_fe")
TINY_VARIANT = Variant(
    TINY, CaiTConfig(32, 16, 32, 2, 2, num_classes=1000), 0, 0.0, 70.0, 90.0, "TINY_32.pth"
)

# A variant as it is published but for its depth: most of the time of loading, tracing and
# optimising a model goes into what is the same in every block.
SHALLOW = "cait_xxs24_224"
SHALLOW_VARIANT = dataclasses.replace(
    VARIANTS[SHALLOW], config=dataclasses.replace(VARIANTS[SHALLOW].config, sa_blocks=2)
)


@dataclasses.dataclass(frozen=True)
class Result:
    """How a command ended, and the tree that it published to."""

    status: int
    stdout: str
    stderr: str
    tree: pathlib.Path


def publish_random(variant: Variant, shards: str) -> Callable[[pathlib.Path], None]:
    """Publishes random weights of a variant, both heads, to `tree` in the folder that it gets.

    Args:
        variant: also one that has the name of one of the ten.
        shards: glob of the sample.
    """

    def make(folder: pathlib.Path) -> None:
        from pipelines.publish.command import main

        flags = ("--variants", variant.name, "--checkpoints", "random", "--sample_shard", shards)
        with mock.patch.dict(VARIANTS, {variant.name: variant}), conversions_reused():
            assert main([*flags, "--publish_to", str(folder / "tree")]) == 0

    return make


def add_version(tree: pathlib.Path, model: str, version: int) -> pathlib.Path:
    """Publishes version 1 again under another number."""
    source = base_path(str(tree), model) / "1"
    staged = tree / ".staging" / f"{model}-{version}"
    shutil.copytree(source, staged)
    manifest = dataclasses.replace(load_manifest(staged), version=version)
    (staged / MANIFEST).write_text(render_manifest(manifest))
    return staged.rename(source.with_name(str(version)))


def copy_as_trained(tree: pathlib.Path, copy: pathlib.Path) -> pathlib.Path:
    """A copy of a published tree whose manifests say that its weights were trained."""
    shutil.copytree(tree, copy)
    for path in copy.glob(f"serving/*/*/{MANIFEST}"):
        manifest = load_manifest(path.parents[1])
        checkpoint = dataclasses.replace(manifest.checkpoint, trained=True)
        path.write_text(render_manifest(dataclasses.replace(manifest, checkpoint=checkpoint)))
    return copy


def settle(tree: pathlib.Path) -> None:
    """Makes the files so far a day old: every server that polls has read the last one."""
    path = models_config_path(str(tree))
    history = read_history(path, read_models_config(path), time.time())
    entries = [
        dataclasses.replace(entry, replaced=entry.replaced and entry.replaced - 86400)
        for entry in history.entries
    ]
    write_history(path, dataclasses.replace(history, entries=tuple(entries)))


def convert_version(
    directory: pathlib.Path,
    config: CaiTConfig,
    tensors: Tensors,
    labels: tuple[str, ...] = (),
    compute: Compute = DEFAULT,
    trained: bool = True,
) -> None:
    """A classifier as the publish job puts it in place, without a run of the job.

    Args:
        directory: `.../<model>/<version>`.
        config: its sizes.
        tensors: its weights.
        labels: names of its classes.
        compute: how the signatures compute.
        trained: whether the weights are.
    """
    from export.convert import convert

    model = directory.parent.name
    directory.parent.mkdir(parents=True, exist_ok=True)
    directories: dict[Head, pathlib.Path] = {"classifier": directory}
    for converted in convert_once(
        convert, model, config, tensors, directories, labels or None, trained, compute
    ):
        manifest = Manifest(
            model=model,
            version=int(directory.name),
            variant=TINY,
            head="classifier",
            geometry=config.geometry,
            parameters=converted.parameters,
            checkpoint=Weights("made for a test", "0" * 64, trained),
            contract=contract_digest("classifier", config.geometry),
            software={},
            files=record_files(directory),
            compute_dtype=compute.dtype,
            profile=compute.profile,
            labels=labels,
        )
        (directory / MANIFEST).parent.mkdir()
        (directory / MANIFEST).write_text(render_manifest(manifest))


def untrained_copy(source: pathlib.Path, target: pathlib.Path) -> None:
    """A SavedModel marked as one with random weights."""
    from tensorflow.core.protobuf import saved_model_pb2

    shutil.copytree(source, target)
    proto = saved_model_pb2.SavedModel.FromString((target / "saved_model.pb").read_bytes())
    mark_untrained(proto.meta_graphs[0])
    (target / "saved_model.pb").write_bytes(proto.SerializeToString())
