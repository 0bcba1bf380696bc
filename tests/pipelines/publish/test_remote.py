"""A whole run that publishes to an object store."""

import dataclasses
import pathlib

import pytest
import tensorflow as tf
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from export import UserError
from pipelines.publish.remote_configs import write_remote_configs
from pipelines.store.beam import BeamStore
from pipelines.store.retention import remove_versions
from pipelines.verify import main as verify
from pipelines.verify import tree_problems
from serving_configs import MANIFEST, parse_manifest
from serving_configs.__main__ import main as serving_configs
from serving_configs.hub.reader import extract_archive
from serving_configs.server.models_config import labels_of, parse_models_config
from serving_configs.tree.manifest import load_manifest, render_manifest
from serving_configs.tree.paths import MODELS_CONFIG
from tests.support.keys import write_keys
from tests.support.labelled_records import write_two
from tests.support.publishers import object_store
from tests.support.trees import TINY

pytestmark = pytest.mark.slow


def names_below(root: str) -> set[str]:
    (match,) = FileSystems.match([f"{root}/**"])
    return {found.path.removeprefix(f"{root}/") for found in match.metadata_list}


def read(path: str) -> bytes:
    with FileSystems.open(path) as file:
        return bytes(file.read())


def test_a_run_publishes_to_a_bucket(publish_tiny, tmp_path):
    with object_store() as store:
        keys = write_keys(tmp_path)
        flags = ("--staging_dir", str(tmp_path / "local"), "--heads", "features", *store.options)
        flags = (*flags, "--sign_with", str(keys.private), "--hub_url", "https://m.example")
        flags = (*flags, "--sample_shard", write_two(tmp_path / "sample"))
        result = publish_tiny("--publish_to", store.root, *flags)
        assert result.status == 0, result.stderr
        version = f"serving/{TINY}_fe/1"
        assert f"{store.root}/{version}" in result.stdout
        names = names_below(store.root)
        assert f"{version}/saved_model.pb" in names
        manifest = parse_manifest(read(f"{store.root}/{version}/{MANIFEST}"))
        copy = tmp_path / "copy"
        for record in manifest.files:
            (copy / record.path).parent.mkdir(parents=True, exist_ok=True)
            (copy / record.path).write_bytes(read(f"{store.root}/{version}/{record.path}"))
        assert "serving_default" in tf.saved_model.load(str(copy)).signatures
        assert {"report.json", "report.md"} <= names
        # Nothing else stays, there or here.
        assert not [name for name in names if name.startswith(".staging/")]
        assert not list((tmp_path / "local").rglob("saved_model.pb"))
        assert verify([store.root, *store.options, "--public_key", str(keys.public)]) == 0
        other = write_keys(tmp_path, "other").public
        assert verify([store.root, *store.options, "--public_key", str(other)]) == 1

        # Around the versions is what a directory has.
        assert {
            "serving/models.config",
            "serving/batching_parameters.txt",
            "serving/monitoring.config",
            "deployment/docker-compose.yaml",
            f"deployment/kubernetes/{TINY}_fe.yaml",
            f"hub/cait/{TINY}_fe/1.tar.gz",
        } <= names
        assert [name for name in names if name.startswith("hub/docs/") and name.endswith(".md")]
        page = read(f"{store.root}/hub/docs/cait/{TINY}_fe/1.md").decode()
        assert f"https://m.example/cait/{TINY}_fe/1.tar.gz" in page
        config = parse_models_config(read(f"{store.root}/{MODELS_CONFIG}"), MODELS_CONFIG)
        (entry,) = config.model_config_list.config
        assert entry.base_path == f"{store.root}/serving/{TINY}_fe"
        archive = tmp_path / "archive.tar.gz"
        with BeamStore(store.root).open(f"hub/cait/{TINY}_fe/1.tar.gz") as file:
            archive.write_bytes(file.read())
        extract_archive(archive, tmp_path / "extracted")
        for path in (tmp_path / "extracted").rglob("*"):
            name = path.relative_to(tmp_path / "extracted").as_posix()
            assert path.is_dir() or path.read_bytes() == read(f"{store.root}/{version}/{name}")

        # What is changed there is found.
        path = f"{store.root}/{version}/fingerprint.pb"
        with FileSystems.create(path) as file:
            file.write(b"changed")
        assert verify([store.root, *store.options]) == 1


def test_configs_of_a_bucket_keep_labels_and_what_they_name(tiny_tree, tmp_path):
    name = f"{TINY}_fe"
    with object_store() as store:
        FileSystems.set_options(PipelineOptions(store.options))
        root = store.root
        tree = BeamStore(root)
        source = tiny_tree / "serving" / name / "1"
        manifest = load_manifest(source)

        def put(version: int) -> None:
            of_version = render_manifest(dataclasses.replace(manifest, version=version))
            names = [record.path for record in manifest.files]
            if not tree.children("staged"):
                for path in names:
                    tree.put_file(source / path, f"staged/{path}")
            extra = {str(MANIFEST): of_version.encode()}
            assert tree.put_version("staged", names, f"serving/{name}/{version}", extra)

        def write() -> dict[str, int]:
            write_remote_configs(tree, "cait", tmp_path)
            assert not (tmp_path / "configs").exists()
            config = parse_models_config(tree.open(MODELS_CONFIG).read(), MODELS_CONFIG)
            return labels_of(config.model_config_list.config[0])

        # Nobody's version: it has no number.
        tree.write(f"serving/{name}/new/{MANIFEST}", b"{}")
        put(1)
        assert write() == {"canary": 1, "stable": 1}
        archive = FileSystems.match([f"{root}/hub/**.tar.gz"])[0].metadata_list[0]
        put(2)
        assert write() == {"canary": 1, "stable": 1}
        archives = FileSystems.match([f"{root}/hub/**.tar.gz"])[0].metadata_list
        assert len(archives) == 2
        # What is there is not written again.
        assert archive in archives
        assert archive.size_in_bytes == archives[1].size_in_bytes > 0
        assert remove_versions(tree, name, 1, "") == []

        # Archives are verified where they are.
        path = f"hub/cait/{name}/2.tar.gz"
        content = tree.open(path).read()
        for written, problem in ((content, None), (content[:-20], "damaged")):
            tree.write(path, written)
            problems = {p: found for p, found in tree_problems(tree) if p.startswith("hub/")}
            assert len(problems) == 2
            assert problems.pop(f"hub/cait/{name}/1.tar.gz") == []
            assert [problem in line for line in problems[path] if problem] == [True] * bool(problem)
        tree.write(path, content)

        # Manifests that are no longer written go; what has another name stays.
        profiles = {f"deployment/kubernetes-xla/{of}.yaml" for of in (name, "somebody_elses")}
        for path in profiles:
            tree.write(path, b"kind: Deployment\n")
        assert write() == {"canary": 1, "stable": 1}
        assert profiles & names_below(root) == {"deployment/kubernetes-xla/somebody_elses.yaml"}

        text = tree.open(MODELS_CONFIG).read().decode()
        tree.write(MODELS_CONFIG, text.replace("value: 1", "value: 2").encode())
        assert write() == {"canary": 2, "stable": 2}
        assert remove_versions(tree, name, 1, "") == [1]

        tree.write(MODELS_CONFIG, b"no config")
        with pytest.raises(UserError, match=r"models\.config.*expected a ModelServerConfig"):
            write_remote_configs(tree, "cait", tmp_path)
        with pytest.raises(UserError, match=r"s3://.*models\.config.*expected a ModelServerConfig"):
            remove_versions(tree, name, 1, "")


def test_labels_of_a_url_are_not_edited(capsys):
    edited = ("promote", "--publish_to", "s3://bucket/tree", "--model", "m", "--version", "1")
    assert serving_configs([*edited]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: s3://bucket/tree: a URL; expected a directory")
    assert error.count("\n") == 1


def test_a_bucket_that_is_not_there_is_named(publish_tiny, tmp_path):
    with object_store() as store:
        url = "s3://no-such-bucket/tree"
        flags = ("--staging_dir", str(tmp_path / "local"), *store.options)
        result = publish_tiny("--publish_to", url, *flags)
        assert result.status == 2
        assert result.stderr.startswith("error: ")
        assert url in result.stderr
        assert result.stderr.count("\n") == 1
    assert not pathlib.Path("s3:").exists()
