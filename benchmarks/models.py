"""The models that the benchmarks measure: random (seeded) weights, converted once and kept."""

import hashlib
import multiprocessing
import pathlib
import shutil
from collections.abc import Callable
from concurrent import futures

from export import Checkpoint, checkpoint_source, get_variant, open_checkpoint
from export.compute import DEFAULT, Compute
from signatures.labels import imagenet_labels
from signatures.quiet import load_tensorflow

_REPOSITORY = pathlib.Path(__file__).parents[1]


def converted(work: pathlib.Path, variant: str, compute: Compute = DEFAULT) -> pathlib.Path:
    """Directory of a variant's classifier.

    Args:
        work: where models are kept between runs. After a change of the conversion they are made
            anew.
        variant: its name.
        compute: how its signatures compute.
    """

    def make(directory: pathlib.Path) -> None:
        from export.convert import convert

        for _ in convert(
            variant,
            get_variant(variant).config,
            random_checkpoint(work, variant).tensors(),
            {"classifier": directory},
            imagenet_labels(),
            compute=compute,
        ):
            pass

    name = variant if compute == DEFAULT else f"{variant}-{compute.dtype}-{compute.profile}"
    return _kept(work.resolve() / name, ("export", "signatures"), make)


def plain_port(work: pathlib.Path, variant: str) -> pathlib.Path:
    """Directory of a variant's plain port, with the weights of `converted`; kept likewise."""

    def make(directory: pathlib.Path) -> None:
        from .plain_port import write_plain_port

        write_plain_port(
            get_variant(variant).config, random_checkpoint(work, variant).tensors(), directory
        )

    return _kept(work.resolve() / "plain_port" / variant, ("benchmarks/plain_port.py",), make)


def random_checkpoint(work: pathlib.Path, variant: str) -> Checkpoint:
    """A checkpoint of random weights; written if it is missing."""
    directory = work.resolve() / "checkpoints"
    there = (directory / f"{variant}.safetensors").exists()
    source = checkpoint_source(str(directory) if there else "random")
    return open_checkpoint(source, get_variant(variant), directory)


def made_apart(
    make: Callable[[pathlib.Path, str], pathlib.Path], work: pathlib.Path, variant: str
) -> pathlib.Path:
    """One of the above, made in a process of its own, whose memory goes with it."""
    context = multiprocessing.get_context("spawn")
    with futures.ProcessPoolExecutor(1, context, load_tensorflow) as pool:
        return pool.submit(make, work, variant).result()


def _kept(
    directory: pathlib.Path, sources: tuple[str, ...], make: Callable[[pathlib.Path], None]
) -> pathlib.Path:
    """A directory that is made if it is not there, or was made by other sources than these."""
    stamp = directory.with_name(f"{directory.name}.sources")
    digest = _digest(sources)
    if not directory.exists() or not stamp.exists() or stamp.read_text() != digest:
        staged = directory.with_name(f"{directory.name}.staged")
        for old in (directory, staged):
            shutil.rmtree(old, ignore_errors=True)
        make(staged)
        staged.rename(directory)
        stamp.write_text(digest)
    return directory


def _digest(sources: tuple[str, ...]) -> str:
    """Of the text of Python files, and of those in folders."""
    digest = hashlib.sha256()
    for source in sources:
        path = _REPOSITORY / source
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()
