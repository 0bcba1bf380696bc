"""What a manifest says of a model before it has a number."""

import dataclasses
import importlib.metadata
import platform

from serving_configs import Manifest, Weights, contract_digest
from signatures.messages import without_credentials

from ..elements import ModelReport, StagedModel
from .configs import serving_facts

# What a model's bytes and figures depend on.
_PACKAGES = ("apache-beam", "numpy", "protobuf", "safetensors", "tensorflow", "tf_keras")


def draft_manifest(staged: StagedModel, report: ModelReport, run: str) -> Manifest:
    """The manifest of a model that passed the gate, but for its number and its files.

    Args:
        staged: the model.
        report: what the gate found.
        run: name of the run.
    """
    geometry = staged.config.geometry
    facts = serving_facts(staged, report)
    return Manifest(
        model=staged.model,
        version=0,
        variant=staged.variant.name,
        head=staged.head,
        geometry=geometry,
        parameters=staged.parameters,
        checkpoint=Weights(
            without_credentials(staged.checkpoint.source),
            staged.checkpoint.sha256,
            staged.checkpoint.trained,
            staged.checkpoint.kind,
            staged.checkpoint.notes,
        ),
        contract=contract_digest(staged.head, geometry),
        software={
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _PACKAGES},
        },
        files=(),
        gate=tuple(dataclasses.asdict(figure) for figure in report.figures),
        images=report.images,
        published=facts["published"],
        measured=facts["measured"],
        run=run,
        compute_dtype=staged.compute.dtype,
        profile=staged.compute.profile,
        labels=staged.checkpoint.labels,
    )
