"""Wrong inputs: one line that names the thing, status 2, and nothing written."""

import pathlib
from collections.abc import Callable

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from export.checkpoints.sources import write_random_checkpoint
from export.variants import VARIANTS

TINY = "cait_tiny_32"


@pytest.fixture
def refused(publish_tiny, tmp_path) -> Callable[..., str]:
    """Runs the command with flags that are wrong, and gives the line that it answers."""

    def run(*flags: str) -> str:
        result = publish_tiny(*flags)
        assert result.status == 2
        assert result.stdout == ""
        (line,) = result.stderr.splitlines()
        assert line.startswith("error: ")
        assert not result.tree.exists()
        return line

    return run


def write_shard(path: pathlib.Path, *records: bytes) -> str:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return str(path)


def example(**features: tf.train.Feature) -> bytes:
    named = {name.replace("__", "/"): feature for name, feature in features.items()}
    message = tf.train.Example(features=tf.train.Features(feature=named))
    return message.SerializeToString()


def bytes_feature(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def test_unknown_variant_is_answered_with_near_matches(refused):
    line = refused("--variants", "cait_xxs24_244")
    assert "'cait_xxs24_244'" in line
    assert "did you mean" in line
    assert "cait_xxs24_224" in line


def test_unknown_head(refused):
    assert "'logits'; expected classifier or features" in refused("--heads", "logits")


def test_unknown_type_to_compute_in(refused):
    assert "--profile fast; expected latency or throughput" in refused("--profile", "fast")
    line = refused("--compute_dtype", "half")
    assert "--compute_dtype half; expected float32 or bfloat16" in line


def test_unknown_flag_is_not_dropped(refused):
    assert "--sample_shards; did you mean --sample_shard" in refused("--sample_shards", "x")


@pytest.mark.parametrize("flag", ["--checkpoints", "--sample_shard", "--publish_to"])
def test_missing_flag(flag, capfd):
    from pipelines.publish.command import main

    flags = {"--checkpoints": "random", "--sample_shard": "x", "--publish_to": "y"}
    del flags[flag]
    assert main([part for pair in flags.items() for part in pair]) == 2
    assert capfd.readouterr().err == f"error: {flag} is missing; --help says what it takes\n"


@pytest.mark.parametrize(
    ("flag", "value"), [("--max_bad_images", "-1"), ("--hub_publisher", "Not Allowed")]
)
def test_value_out_of_range(refused, flag, value):
    line = refused(flag, value)
    assert flag in line
    assert value in line


def test_empty_glob(refused, tmp_path):
    line = refused("--sample_shard", str(tmp_path / "none-*"))
    assert f"{tmp_path}/none-*: no file matches" in line


def test_shard_that_is_no_tfrecord_file(refused, tmp_path):
    path = tmp_path / "shard"
    path.write_bytes(b"not a record file at all")
    assert f"sample shard {path}: record 0 cannot be read" in refused("--sample_shard", str(path))


def test_shard_whose_records_are_no_examples(refused, tmp_path):
    path = write_shard(tmp_path / "shard", b"\xff\xff\xff\xff")
    line = refused("--sample_shard", path)
    assert f"sample shard {path}: record 0 is not a tf.train.Example" in line


def test_shard_without_images(refused, tmp_path):
    path = write_shard(tmp_path / "shard", example(image__filename=bytes_feature(b"x.jpg")))
    line = refused("--sample_shard", path)
    assert f"{path}: record 0 has no image/encoded" in line
    assert "image/filename" in line


def test_shard_with_a_label_out_of_range(refused, tmp_path, data):
    label = tf.train.Feature(int64_list=tf.train.Int64List(value=[1000]))
    encoded = bytes_feature((data / "photos" / "tiny.png").read_bytes())
    record = example(image__encoded=encoded, image__class__label=label)
    line = refused("--sample_shard", write_shard(tmp_path / "shard", record))
    assert "image/class/label 1000; expected 0 to 999" in line


def test_shard_with_too_few_images_to_compare_attention_on(refused, tmp_path, data):
    encoded = bytes_feature((data / "photos" / "tiny.png").read_bytes())
    path = write_shard(tmp_path / "shard", example(image__encoded=encoded))
    assert "1 images can be decoded; expected at least 2" in refused("--sample_shard", path)


def test_no_checkpoint_of_that_name(refused, tmp_path):
    line = refused("--checkpoints", str(tmp_path))
    assert f"--checkpoints {tmp_path}: no file {TINY}.safetensors or TINY_32.pth there" in line


@pytest.fixture
def checkpoint(tiny_variant, tmp_path) -> pathlib.Path:
    path = tmp_path / "checkpoints" / f"{TINY}.safetensors"
    write_random_checkpoint(tiny_variant, path)
    return path


def test_truncated_checkpoint(refused, checkpoint):
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    line = refused("--checkpoints", str(checkpoint.parent))
    assert f"checkpoint {checkpoint}: not a complete safetensors file" in line


def test_checkpoint_that_is_no_safetensors_file(refused, checkpoint):
    checkpoint.write_bytes(b"PK\x03\x04 a zip file, as PyTorch writes it")
    line = refused("--checkpoints", str(checkpoint.parent))
    assert f"checkpoint {checkpoint}: not a complete safetensors file" in line


def test_checkpoint_of_another_variant(refused, checkpoint):
    write_random_checkpoint(VARIANTS["cait_xxs24_224"], checkpoint)
    line = refused("--checkpoints", str(checkpoint.parent))
    assert f"checkpoint {checkpoint} for {TINY}: " in line
    assert "unknown tensor 'blocks.10." in line


def test_checkpoint_with_a_number_that_is_not_finite(refused, checkpoint):
    tensors = safetensors.numpy.load_file(checkpoint)
    tensors["blocks.1.mlp.fc1.bias"][7] = np.nan
    safetensors.numpy.save_file(tensors, checkpoint)
    line = refused("--checkpoints", str(checkpoint.parent))
    assert "tensor 'blocks.1.mlp.fc1.bias' has 1 numbers that are not finite" in line


def test_publish_to_that_cannot_be_written(publish_tiny, tmp_path):
    path = tmp_path / "file"
    path.write_text("in the way")
    result = publish_tiny("--publish_to", str(path / "tree"))
    assert result.status == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"error: --publish_to {path}/tree: cannot be written (Not a directory)")
    assert path.read_text() == "in the way"
