"""A version of a few bytes, with a manifest as the pipeline writes it."""

import pathlib

from serving_configs import (
    MANIFEST,
    Manifest,
    Weights,
    contract_digest,
    record_files,
    render_manifest,
)
from signatures import Geometry

GEOMETRY = Geometry(32, 4, 2, 16, 10, 2, 2)


def manifest_of(directory: pathlib.Path, version: int = 1) -> Manifest:
    return Manifest(
        model="m",
        version=version,
        variant="v",
        head="classifier",
        geometry=GEOMETRY,
        parameters=7,
        checkpoint=Weights("weights/m.safetensors", "a" * 64, True),
        contract=contract_digest("classifier", GEOMETRY),
        software={"tensorflow": "2.21.0"},
        files=record_files(directory),
        gate=(
            {
                "signature": "logits",
                "output": "logits",
                "difference": 1.5e-6,
                "bound": 1e-4,
                "image": "x",
            },
        ),
        images=8,
        published={"top1": 80.0, "top5": 90.0, "flops_g": 1.5},
        run="r",
    )


def write_small_version(directory: pathlib.Path, graph: bytes = b"graph") -> pathlib.Path:
    """Writes a version; the model is called `m`, and the version as the directory is."""
    (directory / "variables").mkdir(parents=True)
    (directory / "assets.extra").mkdir()
    (directory / "saved_model.pb").write_bytes(graph)
    (directory / "variables" / "variables.index").write_bytes(b"index")
    (directory / MANIFEST).write_text(render_manifest(manifest_of(directory, int(directory.name))))
    return directory
