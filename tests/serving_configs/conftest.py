"""A published tree of a tiny model of both heads, put there by the pipeline."""

import pathlib
import shutil

import pytest

from export.variants import VARIANTS, CaiTConfig, Variant
from tests.support.trees import TINY


@pytest.fixture(scope="session")
def published_tree(tmp_path_factory: pytest.TempPathFactory, data: pathlib.Path) -> pathlib.Path:
    """The tree of one run of the publish pipeline. Not to be written to."""
    from pipelines.publish.command import main

    tree = tmp_path_factory.mktemp("published") / "tree"
    config = CaiTConfig(32, 16, 32, 2, 2, num_classes=1000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, TINY, Variant(TINY, config, 0, 2.5, 78.5, 94.2, ""))
        status = main(
            [
                *("--variants", TINY, "--checkpoints", "random"),
                *("--sample_shard", str(data / "sample-shard-*"), "--publish_to", str(tree)),
            ]
        )
    assert status == 0
    return tree


@pytest.fixture
def tree(published_tree: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy that a test may write to; its models.config names the copy's own paths."""
    copy = pathlib.Path(shutil.copytree(published_tree, tmp_path / "tree"))
    config = copy / "serving" / "models.config"
    config.write_text(config.read_text().replace(str(published_tree), str(copy)))
    return copy
