"""The flags of the publish pipeline, in groups, and its help."""

import argparse

from apache_beam.options.pipeline_options import PipelineOptions

from export.compute import COMPUTE_DTYPES, SERVING_PROFILES
from serving_configs.trust.flags import add_sign_with
from signatures import BOTH
from signatures.addresses import absolute_address, absolute_glob, disk_path, written_url

from ..runtime.command_line import JobParser

PROG = "python -m pipelines.publish"

_EXAMPLE = """\
example, with the weights of one variant from the model hub:
  %(prog)s --variants cait_xxs24_224 --checkpoints hf \\
      --sample_shard 'shards/sample-*' --publish_to published

Exit status: 0 when every model was published, 1 when one was not, 2 for a wrong input.
"""


class PublishPipelineOptions(PipelineOptions):
    """The flags, beside Beam's own."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        weights = parser.add_argument_group("weights")
        weights.add_argument(
            "--variants",
            metavar="NAMES",
            help="'all', or names separated by commas (default: the variant that a config.json in "
            "--checkpoints names, or all)",
        )
        weights.add_argument(
            "--model_name",
            metavar="NAME",
            help="name of the models of weights of your own, NAME and NAME_fe, of one variant "
            "(default: the variant's name)",
        )
        weights.add_argument(
            "--heads",
            metavar="NAMES",
            default=",".join(BOTH),
            help="'classifier', 'features' or both (default: %(default)s)",
        )
        weights.add_argument(
            "--checkpoints",
            metavar="SOURCE",
            type=_source,
            help="'hf' for timm's weights from the model hub; a directory or a glob, also by URL, "
            "that holds <variant>.safetensors in timm's key layout or DeiT's .pth files; or "
            "'random' for random weights, the same in every run (needed)",
        )
        weights.add_argument(
            "--revision",
            metavar="NAME",
            help="branch, tag or commit of the repositories of --checkpoints hf (default: main)",
        )
        weights.add_argument(
            "--weights",
            metavar="KIND",
            help="'model' for the weights as trained or 'ema' for their moving average, of a file "
            "that has both (needed then)",
        )
        weights.add_argument(
            "--image_size",
            metavar="PIXELS",
            help="side of the models' images; positions of another size are resampled as timm does "
            "it, and the models are named after the size (default: the size of the weights)",
        )
        weights.add_argument(
            "--compute_dtype",
            metavar="DTYPE",
            default=COMPUTE_DTYPES[0],
            help="what the signatures' products are computed in: 'float32' or 'bfloat16' "
            "(default: %(default)s)",
        )
        weights.add_argument(
            "--profile",
            metavar="LOAD",
            default=SERVING_PROFILES[0],
            help="the load that signatures are built for: 'latency' for one request at a time, "
            "'throughput' for several (default: %(default)s)",
        )
        weights.add_argument(
            "--allow_untrained",
            action="store_true",
            help="lets weights that are not trained into a tree that holds trained ones "
            "(default: they are refused)",
        )
        data = parser.add_argument_group("data")
        data.add_argument(
            "--sample_shard",
            nargs="+",
            metavar="GLOB",
            type=absolute_glob,
            help="globs, also by URL, of TFRecord files, Parquet files or WebDataset's tar files, "
            "with encoded images and, if they are known, classes (needed)",
        )
        data.add_argument(
            "--first_label",
            metavar="N",
            help="what the sample's labels call class 0: 0 or 1 (default: 0, but what WordNet ids "
            "beside the labels say)",
        )
        data.add_argument(
            "--max_bad_images",
            metavar="N",
            default="0",
            help="images of the sample that may be undecodable (default: %(default)s)",
        )
        output = parser.add_argument_group("output")
        output.add_argument(
            "--publish_to",
            metavar="DIR",
            type=absolute_address,
            help="the published tree: a directory or a URL (needed)",
        )
        output.add_argument(
            "--hub_publisher",
            metavar="NAME",
            default="cait",
            help="publisher's name in hub handles (default: %(default)s)",
        )
        output.add_argument(
            "--hub_url",
            metavar="URL",
            type=written_url,
            help="URL of the hub's directory, for the pages (default: that of the last run, at "
            "first http://localhost:8000)",
        )
        output.add_argument(
            "--version",
            metavar="N",
            default="auto",
            help="'auto' for the next free number, or a number (default: %(default)s)",
        )
        output.add_argument(
            "--keep_versions",
            metavar="N",
            help="how many versions of a published model to keep (default: all)",
        )
        add_sign_with(output)
        gate = parser.add_argument_group("gate")
        gate.add_argument(
            "--accuracy_gate",
            metavar="WHEN",
            default="auto",
            help="whether the top-1 accuracy on a labelled sample has to be consistent with the "
            "published one: 'auto' for weights from the model hub, 'on' or 'off' "
            "(default: %(default)s)",
        )
        cluster = parser.add_argument_group(
            "cluster", "Beam's own flags, such as --runner and --direct_num_workers, are taken too."
        )
        cluster.add_argument(
            "--staging_dir",
            metavar="DIR",
            type=absolute_address,
            help="directory on each worker's own disk for models that are made or read, where "
            "--publish_to is a URL (default: the system's directory for temporary files)",
        )
        cluster.add_argument(
            "--shared_disk",
            action="store_true",
            help="the workers of a cluster have this machine's paths on a disk that all share "
            "(default: every path that they read or write has to be a URL)",
        )
        cluster.add_argument(
            "--staging_ttl",
            metavar="SECONDS",
            default="3600",
            help="seconds after which what a dead run left behind is removed "
            "(default: %(default)s)",
        )


def _source(text: str) -> str:
    return text if text in ("hf", "random") else absolute_glob(text)


def add_labels(parser: argparse.ArgumentParser) -> None:
    """Adds the one flag that Beam is not to see."""
    # Beam has a flag of this name, for jobs on Dataflow, which has another name there too: --label.
    parser.add_argument_group("classes").add_argument(
        "--labels",
        metavar="FILE",
        type=disk_path,
        help="text file with the name of a class on each line, for weights that were trained for "
        "classes other than ImageNet's (default: ImageNet's names, or numbers)",
    )


def own_parser(prog: str) -> JobParser:
    """What prints the help and names a wrong flag in one line.

    Beam's own stops before the flags of any subclass, and prints its usage for every error.

    Args:
        prog: the command as it is written.
    """
    parser = JobParser(
        prog,
        usage="%(prog)s --checkpoints SOURCE --sample_shard GLOB ... --publish_to DIR [flags]",
        description="Converts CaiT weights to SavedModels, compares them with a NumPy reference\n"
        "and publishes those that match.",
        epilog=_EXAMPLE,
    )
    PublishPipelineOptions._add_argparse_args(parser)
    add_labels(parser)
    return parser
