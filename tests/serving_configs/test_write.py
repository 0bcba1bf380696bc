"""What a publish run writes around its models, and what `write` does again."""

import pathlib

import pytest

from serving_configs.__main__ import main
from tests.support.trees import MODELS, TINY


def files_of(tree: pathlib.Path) -> set[str]:
    return {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}


def test_publishing_writes_everything_around_the_models(tiny_tree: pathlib.Path) -> None:
    found = files_of(tiny_tree)
    assert {name for name in found if name.startswith("hub/")} == {
        *(f"hub/cait/{model}/1.tar.gz" for model in MODELS),
        *(f"hub/docs/cait/{model}/1.md" for model in MODELS),
        *(f"hub/docs/cait/{model}/1.html" for model in MODELS),
        *("hub/docs/cait/cait.md", "hub/docs/cait/cait.html", "hub/index.html"),
        *(f"hub/docs/cait/collections/cait/1.{suffix}" for suffix in ("md", "html")),
        "hub/kaggle/cait/model-metadata.json",
        "hub/kaggle/cait/tiny-32/model-instance-metadata.json",
        "hub/kaggle/cait/tiny-32-fe/model-instance-metadata.json",
    }
    assert found >= {
        "serving/models.config",
        "serving/batching_parameters.txt",
        "serving/monitoring.config",
        "deployment/docker-compose.yaml",
        *(f"deployment/kubernetes/{model}.yaml" for model in MODELS),
        *(f"deployment/kserve/{model}.yaml" for model in MODELS),
        *(f"serving/{model}/1/batching_params.pbtxt" for model in MODELS),
        *(f"serving/{model}/1/assets.extra/tf_serving_warmup_requests" for model in MODELS),
    }
    assert TINY in (tiny_tree / "serving" / "models.config").read_text()
    assert {path.name for path in (tiny_tree / "deployment").iterdir()} == {
        "docker-compose.yaml",
        "kserve",
        "kubernetes",
        "kubernetes-claim.yaml",
        "settings.json",
    }


def test_writing_again_changes_nothing(tree: pathlib.Path) -> None:
    assert main(["write", str(tree)]) == 0
    before = {name: (tree / name).read_bytes() for name in files_of(tree)}
    assert main(["write", str(tree)]) == 0
    assert {name: (tree / name).read_bytes() for name in files_of(tree)} == before


def test_manifests_that_are_no_longer_written_are_removed(tree: pathlib.Path) -> None:
    withdrawn = tree / "deployment" / "kubernetes-xla"
    withdrawn.mkdir()
    for model in (*MODELS, "somebody_elses"):
        (withdrawn / f"{model}.yaml").write_text("kind: Deployment\n")
    assert main(["write", str(tree)]) == 0
    assert [path.name for path in withdrawn.iterdir()] == ["somebody_elses.yaml"]
    (withdrawn / "somebody_elses.yaml").unlink()
    assert main(["write", str(tree)]) == 0
    assert not withdrawn.exists()


def test_the_hub_s_url_is_kept(tree: pathlib.Path) -> None:
    page = tree / "hub" / "docs" / "cait" / TINY / "1.md"
    for flags, url in (
        ((), "http://localhost:8000"),
        (("--hub_url", "https://models.example/hub/"), "https://models.example/hub"),
        ((), "https://models.example/hub"),
    ):
        assert main(["write", str(tree), *flags]) == 0
        assert f"{url}/cait/{TINY}/1.tar.gz" in page.read_text()


def test_batching_is_asked_for_and_kept(
    tree: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it nobody's image fails the calls of others; earlier files had it."""
    deployment = tree / "deployment"
    files = [deployment / "docker-compose.yaml", deployment / "kubernetes" / f"{TINY}.yaml"]
    (deployment / "settings.json").unlink()
    for path in files:
        path.write_text("    - --enable_batching=true\n")

    def batching() -> set[bool]:
        return {"--enable_batching=true" in path.read_text() for path in files}

    promote = ["promote", "--publish_to", str(tree), "--model", TINY, "--version", "1"]
    for flags, expected in (([], False), (["--batching"], True), (["--no-batching"], False)):
        assert main(["write", str(tree), *flags]) == 0
        assert batching() == {expected}
        # Whoever writes next keeps it.
        for command in (["write", str(tree)], promote):
            assert main(command) == 0
            assert batching() == {expected}
    before = {name: (tree / name).read_bytes() for name in files_of(tree)}
    for damaged in ("", "{}", "[]", '{"batching": 1}'):
        (deployment / "settings.json").write_text(damaged)
        capsys.readouterr()
        for command in (["write", str(tree)], [*promote[:-2], "--version", "1"]):
            assert main(command) == 2
            error = capsys.readouterr().err
            assert "settings.json: expected" in error
            assert error.count("\n") == 1
    (deployment / "settings.json").write_bytes(before["deployment/settings.json"])
    assert {name: (tree / name).read_bytes() for name in files_of(tree)} == before
    (deployment / "settings.json").write_text("{}")
    assert main(["write", str(tree), "--batching"]) == 0


def test_a_container_has_base_paths_of_its_own(
    tree: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["write", str(tree), "--base_path", "/models"]) == 0
    text = (tree / "serving" / "models.config").read_text()
    assert f'base_path: "/models/{TINY}"' in text
    assert str(tree) not in text
    # And keeps them.
    assert main(["write", str(tree)]) == 0
    assert (tree / "serving" / "models.config").read_text() == text
    assert "target: /models\n" in (tree / "deployment" / "docker-compose.yaml").read_text()
    assert main(["write", str(tree), "--base_path", "models"]) == 2
    assert "expected an absolute path" in capsys.readouterr().err
    assert (tree / "serving" / "models.config").read_text() == text


def test_the_storage_class_is_kept(tree: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    claim = tree / "deployment" / "kubernetes-claim.yaml"
    assert main(["write", str(tree)]) == 0
    default = claim.read_text()
    assert main(["write", str(tree), "--storage_class", "nfs-client"]) == 0
    asked_for = claim.read_text()
    assert "storageClassName: nfs-client" in asked_for
    assert main(["write", str(tree)]) == 0
    label = ["--model", TINY, "--version", "1", "--label", "next", "--poll_seconds", "0"]
    assert main(["label", "--publish_to", str(tree), *label]) == 0
    assert claim.read_text() == asked_for
    assert main(["write", str(tree), "--storage_class", "Not a name"]) == 2
    assert "--storage_class 'Not a name'; expected lower-case" in capsys.readouterr().err
    assert main(["write", str(tree), "--storage_class", ""]) == 0
    assert claim.read_text() == default


def test_a_damaged_manifest_and_a_wrong_publisher_are_refused(
    tree: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {name: (tree / name).read_bytes() for name in files_of(tree)}
    assert main(["write", str(tree), "--hub_publisher", "Some One"]) == 2
    assert "expected lower-case letters" in capsys.readouterr().err
    manifest = tree / "serving" / TINY / "1" / "assets.extra" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"images": 8', '"images": 9'))
    assert main(["write", str(tree)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(manifest) in error
    manifest.write_bytes(before[str(manifest.relative_to(tree))])
    assert {name: (tree / name).read_bytes() for name in files_of(tree)} == {
        **before,
        **{name: b"" for name in files_of(tree) - before.keys()},
    }
