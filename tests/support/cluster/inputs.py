"""What the jobs read, in the object store, and the commands of the documentation that read it."""

import pathlib
import tempfile
from collections.abc import Mapping

from export.checkpoints.sources import write_random_checkpoint
from tests.support.cluster.hosts import Cluster
from tests.support.cluster.small_variants import SMALL_VARIANTS
from tests.support.labelled_records import write_shard
from tests.support.paths import DATA
from tests.support.publishers import Tree
from tests.support.readme import PAGES, is_of_cluster, lines, words

SHARDS = 24
_PHOTOS = ("cat.jpg", "cat_alpha.png", "cat_grayscale.jpg")
_REPEATS = 8
_SAMPLE = (("cat.jpg", "portrait_tall.jpg"), ("cat_grayscale.jpg", "coffee_cmyk.jpg"))


def put_inputs(tree: Tree) -> None:
    """Writes weights, the sample, and labelled images in `SHARDS` shards."""
    store = tree.open()
    with tempfile.TemporaryDirectory() as name:
        for variant in SMALL_VARIANTS:
            file = pathlib.Path(name, f"{variant.name}.safetensors")
            write_random_checkpoint(variant, file)
            store.write(f"weights/{file.name}", file.read_bytes())
        for number, names in enumerate(_SAMPLE):
            records = pathlib.Path(name, f"sample-{number}")
            write_shard(records, [(photo(name), None) for name in names])
            store.write(f"sample/{records.name}", records.read_bytes())
        for number in range(SHARDS):
            # No two are the same: what is kept is told apart by it.
            labels = range(number, number + _REPEATS * len(_PHOTOS))
            images = [(photo(_PHOTOS[i % len(_PHOTOS)]), label) for i, label in enumerate(labels)]
            records = pathlib.Path(name, f"records-{number:02}")
            write_shard(records, images)
            store.write(f"labelled/{records.name}", records.read_bytes())


def photo(name: str) -> bytes:
    return (DATA / "photos" / name).read_bytes()


def documented(part: str, places: Mapping[str, str]) -> list[str]:
    """The page's one command that has a part, with other places than the page names."""
    (line,) = (line for line in lines() if is_of_cluster(line) and part in line)
    assert line in PAGES["docs/cluster.md"]
    for place, other in places.items():
        assert place in line
        line = line.replace(place, other)
    return words(line)


def publish_flags(cluster: Cluster, root: str) -> list[str]:
    """The arguments of the page's command for Dask, up to its runner, for the small variants.

    Args:
        cluster: where the inputs are.
        root: where it publishes to.
    """
    places = {"s3://bucket/cait": root, "s3://bucket": cluster.tree("in").root}
    command = documented("--runner DaskRunner", places)
    names = ",".join(variant.name for variant in SMALL_VARIANTS)
    # One head for each: the other one takes as long again.
    small = (f"--variants={names}", "--heads=classifier")
    return [*command[3 : command.index("--runner")], *small, *cluster.options]


def dask_flags(address: str) -> list[str]:
    """The same command's arguments for its runner."""
    command = documented("--runner DaskRunner", {"tcp://scheduler:8786": address})
    return command[command.index("--runner") :]


def flink_flags(places: Mapping[str, str]) -> list[str]:
    """The arguments of the page's command for Flink, from the wheel on."""
    command = documented("--runner FlinkRunner", places)
    return command[command.index("--extra_package") :]


def evaluate_flags(cluster: Cluster, published: str, output: str) -> list[str]:
    """The arguments of the page's command that evaluates.

    Args:
        cluster: where the labelled images are.
        published: the root of the published tree.
        output: where figures are kept.
    """
    places = {
        "s3://bucket/cait/serving": f"{published}/serving",
        "s3://bucket/cait/evaluation": output,
        "s3://bucket": cluster.tree("in").root,
    }
    return [*documented("pipelines.evaluate", places)[3:], *cluster.options]
