"""A whole run that publishes to an object store."""

import pathlib

import tensorflow as tf
from apache_beam.io.filesystems import FileSystems

from benchmarks.publishing import object_store
from pipelines.verify import main as verify
from serving_configs import MANIFEST, parse_manifest
from tests.pipelines.conftest import TINY


def names_below(root: str) -> set[str]:
    (match,) = FileSystems.match([f"{root}/**"])
    return {found.path.removeprefix(f"{root}/") for found in match.metadata_list}


def read(path: str) -> bytes:
    with FileSystems.open(path) as file:
        return bytes(file.read())


def test_a_run_publishes_to_a_bucket(publish_tiny, tmp_path):
    with object_store(tmp_path / "local" / "staging") as store:
        flags = ("--staging_dir", str(tmp_path / "local"), "--heads", "features", *store.options)
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
        assert verify([store.root, *store.options]) == 0

        # What is changed there is found.
        path = f"{store.root}/{version}/fingerprint.pb"
        with FileSystems.create(path) as file:
            file.write(b"changed")
        assert verify([store.root, *store.options]) == 1


def test_a_bucket_that_is_not_there_is_named(publish_tiny, tmp_path):
    with object_store(tmp_path / "local" / "staging") as store:
        url = "s3://no-such-bucket/tree"
        flags = ("--staging_dir", str(tmp_path / "local"), *store.options)
        result = publish_tiny("--publish_to", url, *flags)
        assert result.status == 2
        assert result.stderr.startswith("error: ")
        assert url in result.stderr
        assert result.stderr.count("\n") == 1
    assert not pathlib.Path("s3:").exists()
