"""The options of the publish pipeline."""

import argparse
import dataclasses
import math
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import TypeVar, get_args

from apache_beam.options.pipeline_options import PipelineOptions

from export.checkpoints.intake import WeightsKind
from export.checkpoints.sizes import check_image_size
from export.compute import COMPUTE_DTYPES, SERVING_PROFILES, Compute
from export.errors import UserError
from export.variants import VARIANTS, get_variant, is_variant
from serving_configs.tree.paths import name_problem
from signatures import BOTH, Head
from signatures.addresses import is_url
from signatures.flags import add_verbose

from ..data.flags import first_label
from ..gate.accuracy import AccuracyGate, accuracy_gate
from ..runtime.command_line import refuse_unknown, split_names, whole_number
from ..runtime.engines import register_flags
from .flags import PROG, PublishPipelineOptions, add_labels, own_parser

# The rule of the hub's documentation format.
_PUBLISHER = re.compile(r"[a-z\d-]+")

_Known = TypeVar("_Known", bound=str)


@dataclasses.dataclass(frozen=True)
class PublishOptions:
    """The checked options of a run.

    Attributes:
        variants: names of the variants; None for the one that the checkpoints name, or all.
        model_name: name of the models, of one's own; None for the variants'.
        heads: which models to make of each.
        checkpoints: where the weights come from.
        revision: of the hub's repositories, None for their newest.
        weights: which weights to take of a file with both kinds; None for a file with one.
        image_size: side of the models' images in pixels; None for that of the weights.
        labels: file of the classes' names, None for ImageNet's or their numbers.
        sample_shard: globs.
        first_label: what the sample calls class 0; None for what is usual for its layout.
        publish_to: absolute path of the published tree.
        hub_publisher: the publisher's name.
        hub_url: where the hub's directory can be read, None for that of the last run.
        max_bad_images: images of the sample that may fail to decode.
        accuracy_gate: whether the accuracy on the sample is compared with the published one.
        compute: how the signatures compute.
        version: the number to publish, None for the next free one.
        keep_versions: how many versions of a published model to keep, None for all.
        sign_with: file of the key that signs the versions, None to leave them unsigned. It is read
            in the command's own process alone.
        allow_untrained: whether untrained weights may come beside trained ones.
        staging_ttl: seconds after which what a dead run left behind is removed.
        staging_dir: directory on each worker's own disk for models while they are made or read;
            None for the system's. A tree on a disk has none: they are made in the tree.
        shared_disk: whether the workers of an engine elsewhere see this machine's paths.
    """

    variants: tuple[str, ...] | None
    model_name: str | None
    heads: tuple[Head, ...]
    checkpoints: str
    revision: str | None
    weights: WeightsKind | None
    image_size: int | None
    labels: pathlib.Path | None
    sample_shard: tuple[str, ...]
    first_label: int | None
    publish_to: str
    hub_publisher: str
    hub_url: str | None
    max_bad_images: int
    accuracy_gate: AccuracyGate
    compute: Compute
    version: int | None
    keep_versions: int | None
    sign_with: pathlib.Path | None
    allow_untrained: bool
    staging_ttl: float
    staging_dir: str | None
    shared_disk: bool

    @property
    def places(self) -> list[tuple[str, str]]:
        """What workers read and write: flags, and the path or URL of each."""
        places = [("--publish_to", self.publish_to)]
        places += [("--sample_shard", pattern) for pattern in self.sample_shard]
        if self.checkpoints not in ("hf", "random"):
            places.append(("--checkpoints", self.checkpoints))
        return places

    @classmethod
    def from_beam(
        cls, options: PipelineOptions, labels: pathlib.Path | None = None
    ) -> "PublishOptions":
        """Checks the flags.

        Args:
            options: all of them but `--labels`.
            labels: that one.

        Raises:
            UserError: a flag is unknown, missing or has a value that it can't have.
        """
        _refuse_unknown(options)
        flags = options.view_as(PublishPipelineOptions)
        for name in ("checkpoints", "sample_shard", "publish_to"):
            if not getattr(flags, name):
                raise UserError(f"--{name} is missing; --help says what it takes")
        if not _PUBLISHER.fullmatch(flags.hub_publisher):
            raise UserError(
                f"--hub_publisher {flags.hub_publisher!r}; expected lower-case letters, digits "
                "and hyphens"
            )
        variants = _variants(flags.variants)
        return cls(
            variants=variants,
            model_name=_model_name(flags.model_name, variants),
            heads=_heads(flags.heads),
            checkpoints=flags.checkpoints,
            revision=flags.revision,
            weights=_weights(flags.weights),
            image_size=_image_size(flags.image_size, variants or _unasked(flags.checkpoints)),
            labels=labels,
            sample_shard=tuple(flags.sample_shard),
            first_label=first_label(flags.first_label),
            publish_to=flags.publish_to,
            hub_publisher=flags.hub_publisher,
            hub_url=flags.hub_url,
            max_bad_images=whole_number("--max_bad_images", flags.max_bad_images, 0),
            accuracy_gate=accuracy_gate(flags.accuracy_gate),
            compute=Compute(
                _one_of("--compute_dtype", flags.compute_dtype, COMPUTE_DTYPES),
                _one_of("--profile", flags.profile, SERVING_PROFILES),
            ),
            version=None
            if flags.version == "auto"
            else whole_number("--version", flags.version, 1),
            keep_versions=whole_number("--keep_versions", flags.keep_versions, 1)
            if flags.keep_versions is not None
            else None,
            sign_with=flags.sign_with,
            allow_untrained=flags.allow_untrained,
            staging_ttl=_seconds("--staging_ttl", flags.staging_ttl),
            staging_dir=_staging_dir(flags.publish_to, flags.staging_dir),
            shared_disk=flags.shared_disk,
        )


def _variants(value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    if value == "all":
        return tuple(VARIANTS)
    names = split_names("--variants", value)
    return tuple(get_variant(name).name for name in names)


def _model_name(value: str | None, variants: Sequence[str] | None) -> str | None:
    if value is None:
        return None
    if problem := name_problem(value):
        raise UserError(f"--model_name {value}: {problem}")
    # Kaggle's names of the variants' models lack their `cait_`.
    plain = value.replace("-", "_")
    for name in (plain, f"cait_{plain}"):
        if is_variant(name):
            raise UserError(
                f"--model_name {value}: the name of the variant {name}; expected another name, or "
                "no --model_name"
            )
    if variants is not None:
        require_one(value, variants)
    return value


def require_one(model_name: str, variants: Sequence[str]) -> None:
    """Checks that models of one variant alone get a name.

    Raises:
        UserError: there are several.
    """
    if len(variants) > 1:
        raise UserError(
            f"--model_name {model_name}: {len(variants)} variants are asked for; expected "
            "--variants with one"
        )


def _heads(value: str) -> tuple[Head, ...]:
    names = split_names("--heads", value)
    for name in names:
        if name not in BOTH:
            raise UserError(f"--heads: unknown head {name!r}; expected {' or '.join(BOTH)}")
    return tuple(head for head in BOTH if head in names)


def _weights(value: str | None) -> WeightsKind | None:
    kinds: tuple[WeightsKind, ...] = get_args(WeightsKind)
    for kind in kinds:
        if kind == value:
            return kind
    if value is not None:
        raise UserError(f"--weights {value}; expected {' or '.join(kinds)}")
    return None


def _image_size(value: str | None, variants: Iterable[str]) -> int | None:
    if value is None:
        return None
    size = whole_number("--image_size", value, 1)
    for name in variants:
        check_image_size(size, get_variant(name))
    return size


def _unasked(checkpoints: str) -> tuple[str, ...]:
    """The variants without `--variants`, as far as they are known before weights are read."""
    return tuple(VARIANTS) if checkpoints in ("hf", "random") else ()


def _one_of(flag: str, value: str, known: Sequence[_Known]) -> _Known:
    for name in known:
        if name == value:
            return name
    raise UserError(f"{flag} {value}; expected {' or '.join(known)}")


def _seconds(flag: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UserError(f"{flag} {value}; expected seconds, 0 or more")
    return seconds


def _staging_dir(publish_to: str, staging_dir: str | None) -> str | None:
    if staging_dir is None:
        return None
    if not is_url(publish_to):
        raise UserError(
            f"--staging_dir {staging_dir}: a version is renamed into --publish_to, so it is made "
            "there; leave --staging_dir out"
        )
    return staging_dir


def _refuse_unknown(options: PipelineOptions) -> None:
    known = PipelineOptions([]).get_all_options()
    refuse_unknown(options.get_all_options(retain_unknown_options=True), known)


def parse(argv: Sequence[str], prog: str = PROG) -> tuple[PublishOptions, PipelineOptions]:
    """The checked options, and all of them as Beam takes them.

    Raises:
        UserError: see `PublishOptions.from_beam`.
        SystemExit: after `--help`.
    """
    # Prints the help, too.
    own_parser(prog).parse_known_args(argv)
    own = argparse.ArgumentParser(prog, add_help=False, allow_abbrev=False)
    add_labels(own)
    add_verbose(own)
    flags, others = own.parse_known_args(argv)
    register_flags(others)
    options = PipelineOptions(others)
    return PublishOptions.from_beam(options, flags.labels), options
