"""Conversions that a run of the tests makes once, whichever test or process needs them first.

Most tests of the pipeline begin with a publish run of the tiny variant, and half of its time goes
into the same SavedModels. Tests of the conversion itself call `export.convert` as it is.
"""

import contextlib
import functools
import hashlib
import json
import os
import pathlib
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from export.compute import DEFAULT, Compute
from export.variants import CaiTConfig
from signatures import Head
from signatures.quiet import load_tensorflow
from tests.support.arrays import Tensors

CACHE = "CAIT_TEST_CONVERSIONS"
"""The environment's name of the directory of what was converted. Without it all is made anew."""


@contextlib.contextmanager
def conversions_kept() -> Iterator[None]:
    """Keeps conversions of this process, and of those that it starts, until the block ends."""
    if CACHE in os.environ:  # Another process's, that started this one.
        yield
        return
    with tempfile.TemporaryDirectory(prefix="cait-conversions-") as directory:
        os.environ[CACHE] = directory
        try:
            yield
        finally:
            del os.environ[CACHE]


@contextlib.contextmanager
def conversions_reused() -> Iterator[None]:
    """Lets the pipeline in this process take what was converted before, until the block ends.

    A conversion that a test has put in the place of the real one stays there.
    """
    if CACHE not in os.environ:
        yield
        return
    # Before the import, which would load it with all that it logs.
    load_tensorflow()
    import export.convert

    original = export.convert.convert
    if original.__module__ == "export.convert":
        export.convert.convert = functools.partial(convert_once, original)
    try:
        yield
    finally:
        export.convert.convert = original


def convert_once(
    convert: Callable[..., Iterator[Any]],
    name: str,
    config: CaiTConfig,
    tensors: Tensors,
    directories: Mapping[Head, pathlib.Path],
    labels: Sequence[str] | None = None,
    trained: bool = True,
    compute: Compute = DEFAULT,
) -> Iterator[Any]:
    """What `export.convert.convert` yields, or copies of what it made of the same arguments."""
    from export.convert import Converted

    if CACHE not in os.environ:
        yield from convert(name, config, tensors, directories, labels, trained, compute)
        return
    digest = hashlib.sha256(repr((name, config, labels, trained, compute)).encode())
    for key in sorted(tensors):
        digest.update(key.encode() + tensors[key].tobytes())
    kept = pathlib.Path(os.environ[CACHE], digest.hexdigest())
    if not all((kept / head).exists() for head in directories):
        made = {head: kept / uuid.uuid4().hex / head for head in directories}
        for converted in convert(name, config, tensors, made, labels, trained, compute):
            facts = {"parameters": converted.parameters, "seconds": converted.seconds}
            _facts(converted.directory).write_text(json.dumps(facts))
            with contextlib.suppress(OSError):  # Another process was faster.
                _facts(converted.directory).rename(_facts(kept / converted.head))
                converted.directory.rename(kept / converted.head)
    for head, directory in directories.items():
        shutil.copytree(kept / head, directory)
        yield Converted(head, directory, **json.loads(_facts(kept / head).read_text()))


def _facts(directory: pathlib.Path) -> pathlib.Path:
    return directory.with_name(f"{directory.name}.json")
