"""Reading the sample, and which of its images have their attention compared."""

import dataclasses
from typing import Any

import pytest
import tensorflow as tf

from pipelines.data.shards import plan_shards, read_shard
from pipelines.elements import Shard


def write(path, *images: tuple[bytes, dict[str, tf.train.Feature]]) -> str:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for encoded, features in images:
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))
            named = tf.train.Features(feature={"image/encoded": feature, **features})
            writer.write(tf.train.Example(features=named).SerializeToString())
    return str(path)


def test_repositorys_shards_hold_its_photographs(data):
    names = []
    for path in sorted(data.glob("sample-shard-*")):
        for image in read_shard(str(path)):
            assert image.encoded == (data / "photos" / image.name).read_bytes()
            assert image.label is None
            names.append(image.name)
    photographs = {path.name for path in (data / "photos").iterdir()}
    assert set(names) == photographs - {"README.md", "timm_eval_pixels.npz"}
    assert len(names) == 8


def test_record_has_its_number_a_name_and_its_label(tmp_path):
    label = tf.train.Feature(int64_list=tf.train.Int64List(value=[281]))
    path = write(tmp_path / "shard", (b"a", {}), (b"b", {"image/class/label": label}))
    first, second = read_shard(path)
    assert (first.number, first.name, first.label) == (0, "shard#0", None)
    assert (second.number, second.name, second.label) == (1, "shard#1", 281)


def test_attention_is_compared_on_the_first_two_that_can_be_decoded(tmp_path, data):
    photo: tuple[bytes, dict[str, Any]] = ((data / "photos" / "tiny.png").read_bytes(), {})
    write(tmp_path / "s-0", (b"bad", {}))
    write(tmp_path / "s-1", (b"bad", {}), photo)
    write(tmp_path / "s-2", photo, photo)
    shards = plan_shards([str(tmp_path / "s-*"), str(tmp_path / "s-1")])
    assert [dataclasses.replace(shard, stamp="") for shard in shards] == [
        Shard(str(tmp_path / "s-0"), 1, ()),
        Shard(str(tmp_path / "s-1"), 2, (1,)),
        Shard(str(tmp_path / "s-2"), 2, (0,)),
    ]


@pytest.mark.parametrize("cut", [1, 20])
def test_shard_that_is_cut_off_is_an_error(tmp_path, data, cut):
    from export.errors import UserError

    path = data / "sample-shard-00000-of-00002"
    (tmp_path / "shard").write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(UserError, match="record 3 cannot be read"):
        list(read_shard(str(tmp_path / "shard")))
