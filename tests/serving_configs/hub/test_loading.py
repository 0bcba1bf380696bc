"""What a consumer does with the hub: archives from a path and from a static site, snippets."""

import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub

from serving_configs.__main__ import main
from tests.support.hub_validator import problems
from tests.support.static_site import static_site
from tests.support.trees import MODELS

IMAGES = np.random.default_rng(3).normal(size=(2, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def site(
    tiny_tree: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[pathlib.Path, str]]:
    """A copy of the tree whose pages name the site that serves its hub."""
    root = tmp_path_factory.mktemp("site")
    tree = pathlib.Path(shutil.copytree(tiny_tree, root / "tree"))
    with static_site(tree / "hub") as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFHUB_CACHE_DIR", str(root / "cache"))
        assert main(["write", str(tree), "--hub_url", url]) == 0
        yield tree, url


@pytest.fixture(scope="module")
def expected(tiny_tree: pathlib.Path) -> dict[str, Any]:
    """Model -> the main output on `IMAGES`, by the published version itself."""
    replies = {}
    for model in MODELS:
        loaded = tf.saved_model.load(str(tiny_tree / "serving" / model / "1"))
        (reply,) = loaded.signatures["serving_default"](images=tf.constant(IMAGES)).values()
        replies[model] = reply.numpy()
    return replies


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("source", ["path", "site"])
def test_archives_load(
    site: tuple[pathlib.Path, str],
    expected: dict[str, Any],
    tmp_path: pathlib.Path,
    model: str,
    source: str,
) -> None:
    tree, url = site
    handle = f"{url}/cait/{model}/1.tar.gz"
    if source == "path":
        handle = str(tmp_path / "unpacked")
        assert main(["extract", str(tree / "hub" / "cait" / model / "1.tar.gz"), handle]) == 0
    main_output, self_attention, class_attention = hub.load(handle)(tf.constant(IMAGES))
    np.testing.assert_allclose(main_output, expected[model], atol=1e-5)
    assert set(self_attention) == {"sa_ffn_block_0_att", "sa_ffn_block_1_att"}
    assert set(class_attention) == {"ca_ffn_block_0_att", "ca_ffn_block_1_att"}
    layer = hub.KerasLayer(handle, trainable=True, arguments={"return_attention": False})
    np.testing.assert_allclose(layer(IMAGES), expected[model], atol=1e-5)
    assert len(layer.trainable_weights) > 10


@pytest.mark.parametrize("model", MODELS)
def test_snippets_of_a_page_run_as_they_stand(site: tuple[pathlib.Path, str], model: str) -> None:
    tree, url = site
    page = tree / "hub" / "docs" / "cait" / model / "1.md"
    snippets = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    assert len(snippets) == 2
    for snippet in snippets:
        assert url in snippet
        exec(compile(snippet, str(page), "exec"), {"__name__": "snippet"})


def test_pages_of_the_tree_keep_the_rules(site: tuple[pathlib.Path, str]) -> None:
    docs = site[0] / "hub" / "docs"
    pages = sorted(docs.rglob("*.md"))
    assert len(pages) == 4
    assert {page: problems(docs, page) for page in pages} == {page: [] for page in pages}
    # Random weights, which the pipeline marks as not trained.
    assert all("Not trained" in page.read_text() for page in pages if page.name == "1.md")
