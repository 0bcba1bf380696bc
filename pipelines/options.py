"""The options of the publish pipeline."""

import argparse
import dataclasses
import difflib
import pathlib
import re
import sys
from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions

from export.errors import UserError
from export.variants import VARIANTS, get_variant
from signatures import BOTH, Head

# The rule of the hub's documentation format.
_PUBLISHER = re.compile(r"[a-z\d-]+")


class PublishPipelineOptions(PipelineOptions):
    """The flags, beside Beam's own."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--variants", default="all", help="'all', or names separated by commas")
        parser.add_argument(
            "--heads", default=",".join(BOTH), help="'classifier', 'features' or both (default)"
        )
        parser.add_argument(
            "--checkpoints",
            help="directory or glob that holds <variant>.safetensors in timm's key layout, or "
            "'random' for weights made by rule",
        )
        parser.add_argument(
            "--sample_shard",
            nargs="+",
            help="globs of TFRecord files of tf.train.Example with image/encoded",
        )
        parser.add_argument("--publish_to", help="directory of the published tree")
        parser.add_argument(
            "--hub_publisher", default="cait", help="publisher's name in hub handles"
        )
        parser.add_argument(
            "--max_bad_images",
            default="0",
            help="images of the sample that may be undecodable",
        )


@dataclasses.dataclass(frozen=True)
class PublishOptions:
    """The checked options of a run.

    Attributes:
        variants: names of the variants.
        heads: which models to make of each.
        checkpoints: where the weights come from.
        sample_shard: globs.
        publish_to: absolute path of the published tree.
        hub_publisher: the publisher's name.
        max_bad_images: undecodable images that the gate lets pass.
    """

    variants: tuple[str, ...]
    heads: tuple[Head, ...]
    checkpoints: str
    sample_shard: tuple[str, ...]
    publish_to: str
    hub_publisher: str
    max_bad_images: int

    @classmethod
    def from_beam(cls, options: PipelineOptions) -> "PublishOptions":
        """Checks the flags.

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
        if not flags.max_bad_images.isdecimal():
            raise UserError(f"--max_bad_images {flags.max_bad_images}; expected 0 or more")
        if "://" in flags.publish_to:
            raise UserError(
                f"--publish_to {flags.publish_to}: only directories can be published to"
            )
        return cls(
            variants=_variants(flags.variants),
            heads=_heads(flags.heads),
            checkpoints=flags.checkpoints,
            sample_shard=tuple(flags.sample_shard),
            publish_to=str(pathlib.Path(flags.publish_to).absolute()),
            hub_publisher=flags.hub_publisher,
            max_bad_images=int(flags.max_bad_images),
        )


def _variants(value: str) -> tuple[str, ...]:
    if value == "all":
        return tuple(VARIANTS)
    names = _split(value, "--variants")
    return tuple(get_variant(name).name for name in names)


def _heads(value: str) -> tuple[Head, ...]:
    names = _split(value, "--heads")
    for name in names:
        if name not in BOTH:
            raise UserError(f"--heads: unknown head {name!r}; expected {' or '.join(BOTH)}")
    return tuple(head for head in BOTH if head in names)


def _split(value: str, flag: str) -> list[str]:
    names = [name.strip() for name in value.split(",") if name.strip()]
    if not names:
        raise UserError(f"{flag} names nothing; expected names separated by commas")
    return list(dict.fromkeys(names))


def _refuse_unknown(options: PipelineOptions) -> None:
    # Beam drops flags that it does not know, so a typing error would go unnoticed.
    known = PipelineOptions([]).get_all_options()
    for name in options.get_all_options(retain_unknown_options=True):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(f'--{n}' for n in near)}?" if near else "see --help"
            raise UserError(f"unknown flag --{name}; {hint}")


def _print_help() -> None:
    # Beam's own help stops before the flags of any subclass.
    parser = argparse.ArgumentParser(
        "python -m pipelines.publish",
        description="Converts, validates and publishes CaiT models.",
        epilog="Beam's flags, such as --runner and --direct_num_workers, are accepted too.",
    )
    PublishPipelineOptions._add_argparse_args(parser)
    parser.print_help()


def parse(argv: Sequence[str]) -> tuple[PublishOptions, PipelineOptions]:
    """The checked options, and all of them as Beam takes them.

    Raises:
        UserError: see `PublishOptions.from_beam`.
    """
    if "-h" in argv or "--help" in argv:
        _print_help()
        sys.exit(0)
    options = PipelineOptions(list(argv))
    return PublishOptions.from_beam(options), options
