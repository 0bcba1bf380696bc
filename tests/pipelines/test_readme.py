"""The pages' commands and snippets about the pipelines and about loading what they publish, as they
stand there. tests/test_documentation.py says which test runs what else.
"""

import argparse
import re
import shutil

import pytest

from export.checkpoints.sources import write_random_checkpoint
from export.variants import VARIANTS
from pipelines.publish.flags import PublishPipelineOptions, add_labels
from pipelines.publish.options import parse
from pipelines.runtime.engines import runner_name
from pipelines.verify import main as verify
from signatures import BOTH
from signatures.documentation import signature_table
from tests.support.paths import DATA, REPOSITORY
from tests.support.readme import (
    PAGES,
    between,
    blocks,
    command_of,
    is_of_cluster,
    is_of_hub,
    is_of_serving,
    lines,
    words,
)
from tests.support.trees import SHALLOW, SHALLOW_VARIANT

SNIPPETS = [
    snippet for snippet in blocks("python") if not is_of_serving(snippet) and not is_of_hub(snippet)
]


COMMANDS = [line for line in lines() if words(line)[1:3] == ["-m", "pipelines.publish"]]
PUBLISH = [words(line) for line in COMMANDS if not is_of_cluster(line)]
ON_CLUSTERS = [words(line) for line in COMMANDS if is_of_cluster(line)]


def test_publish_commands_are_there():
    assert len(PUBLISH) == 6
    assert len(ON_CLUSTERS) == 4


@pytest.mark.parametrize("command", PUBLISH, ids=len)
def test_publish_command_has_flags_that_are_accepted(command):
    options, _ = parse(command[3:])
    assert options.publish_to.endswith("build/published")


@pytest.mark.parametrize("command", ON_CLUSTERS, ids=lambda command: runner_of(command))
def test_command_for_a_cluster_has_flags_that_are_accepted(command):
    """tests/cluster runs those for Dask and Flink; the other engines are not here."""
    options, beam_options = parse(command[3:])
    assert re.fullmatch(r"(s3|gs)://bucket/cait", options.publish_to)
    assert runner_name(beam_options) == runner_of(command)
    assert not beam_options.get_all_options(drop_default=True).keys() & CREDENTIALS


def runner_of(command: list[str]) -> str:
    return command[command.index("--runner") + 1]


CREDENTIALS = {"s3_access_key_id", "s3_secret_access_key", "s3_session_token"}


# tests/pipelines/publish/test_own_classes.py runs the one for weights of one's own.
def test_publish_command_runs_on_files_of_weights(publish_tiny, tiny_variant, tmp_path):
    """With a variant of two blocks, and paths of this test."""
    weights = tmp_path / "weights"
    write_random_checkpoint(tiny_variant, weights / f"{tiny_variant.name}.safetensors")
    plain, sized, several = (
        command for command in PUBLISH if not {"random", "--model_name"} & set(command)
    )
    own = {"--image_size", "--compute_dtype", "--profile"}
    assert not own & set(plain)
    for command, head in (plain, "classifier"), (several, "features"), (sized, "features"):
        assert command[command.index("--checkpoints") + 1] == "weights"
        places = [place for place, word in enumerate(command) if word in own]
        flags = [word for place in places for word in command[place : place + 2]]
        result = publish_tiny("--checkpoints", str(weights), "--heads", head, *flags)
        assert result.status == 0, result.stderr
    assert "cait_tiny_288" in result.stdout


# So that a snippet which builds the variant builds one of fewer blocks, as the published one is.
FEWER_BLOCKS = """
from export.variants import VARIANTS
from tests.support.trees import SHALLOW, SHALLOW_VARIANT

VARIANTS[SHALLOW] = SHALLOW_VARIANT
"""


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda text: text.splitlines()[-1][:40])
def test_python_snippet_runs(shallow_tree, tmp_path, run_snippet, snippet):
    """In a directory that has what the snippet reads, with nothing of this project to import but
    what it says it does. The model has fewer blocks than the one that the snippet names.
    """
    named, shallow = VARIANTS[SHALLOW].config.sa_blocks, SHALLOW_VARIANT.config.sa_blocks
    snippet = snippet.replace(f"sa_ffn_block_{named - 1}", f"sa_ffn_block_{shallow - 1}")
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "published").symlink_to(shallow_tree)
    (tmp_path / "tests").symlink_to(REPOSITORY / "tests")
    path = []
    if "from export import" in snippet:
        path = [REPOSITORY]
        snippet = f"{FEWER_BLOCKS}\n{snippet}"
        write_random_checkpoint(SHALLOW_VARIANT, tmp_path / "weights" / f"{SHALLOW}.safetensors")
    if 'Path("images"' in snippet:
        for name, photo in (("cat", "cat.jpg"), ("cat", "cat_alpha.png"), ("man", "tiny.png")):
            (tmp_path / "images" / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(DATA / "photos" / photo, tmp_path / "images" / name)
    ran = run_snippet(snippet, tmp_path, path)
    assert ran.status == 0, ran.err


def test_verify_command_runs(shallow_tree, monkeypatch, tmp_path):
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "published").symlink_to(shallow_tree)
    monkeypatch.chdir(tmp_path)
    assert verify(command_of("pipelines.verify")) == 0


def test_every_flag_is_in_the_table():
    parser = argparse.ArgumentParser()
    PublishPipelineOptions._add_argparse_args(parser)
    add_labels(parser)
    flags = {flag for action in parser._actions for flag in action.option_strings}
    for flag in flags - {"-h", "--help"}:
        assert f"| `{flag}` |" in PAGES["docs/publish.md"]


def test_table_of_signatures_is_that_of_the_contract():
    assert between("signatures") == signature_table()


def test_measured_table_has_every_model():
    rows = [line.split("|")[1].strip() for line in between("measured").splitlines()[2:]]
    models = [variant.model_name(head) for variant in VARIANTS.values() for head in BOTH]
    assert sorted(rows) == sorted(models)
