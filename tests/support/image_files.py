"""Labelled images in files as people have them: tables, archives and records."""

import gzip
import io
import json
import pathlib
import tarfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

Labelled = Sequence[tuple[bytes, int]]
"""Encoded images and the numbers of their classes, from 0."""


def feature(value: bytes | int) -> tf.train.Feature:
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))


def write_records(path: pathlib.Path, records: Sequence[Mapping[str, bytes | int]]) -> None:
    """Writes a TFRecord file of Examples with these features; compressed if it is named .gz."""
    compression = "GZIP" if path.suffix == ".gz" else ""
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            features = {name: feature(value) for name, value in record.items()}
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())


def write_models_records(path: pathlib.Path, images: Labelled, ids: Sequence[str] = ()) -> None:
    """As TensorFlow's models write ImageNet: classes from 1, with their WordNet ids if given."""
    records: list[dict[str, bytes | int]] = []
    for encoded, label in images:
        records.append({"image/encoded": encoded, "image/class/label": label + 1})
        if ids:
            records[-1]["image/class/synset"] = ids[label].encode()
    write_records(path, records)


def write_datasets_records(path: pathlib.Path, images: Labelled) -> None:
    """As TensorFlow Datasets writes ImageNet."""
    write_records(
        path,
        [
            {"image": encoded, "label": label, "file_name": b"ILSVRC2012_val_%08d.JPEG" % number}
            for number, (encoded, label) in enumerate(images)
        ],
    )


def write_parquet(path: pathlib.Path, images: Labelled, names: Sequence[str] = ()) -> None:
    """As the model hub writes a data set, with the names of its classes if they are given."""
    image = pa.array(
        [{"bytes": encoded, "path": f"{i}.JPEG"} for i, (encoded, _) in enumerate(images)],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    table = pa.table({"image": image, "label": pa.array([label for _, label in images])})
    if names:
        features = {"label": {"names": list(names), "_type": "ClassLabel"}}
        info = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": info})
    pq.write_table(table, path, row_group_size=5)


def write_tar(path: pathlib.Path, images: Labelled) -> None:
    """As WebDataset writes a shard; compressed if it is named .gz."""
    members = [
        member
        for number, (encoded, label) in enumerate(images)
        for member in ((f"{number:05}.jpg", encoded), (f"{number:05}.cls", b"%d\n" % label))
    ]
    path.write_bytes(tar_of(members, "w:gz" if path.suffix == ".gz" else "w"))


def tar_of(members: Sequence[tuple[str, bytes]], mode: Any = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def _plain_records(path: pathlib.Path, images: Labelled) -> None:
    records: list[dict[str, bytes | int]] = [
        {"image/encoded": encoded, "image/class/label": label} for encoded, label in images
    ]
    write_records(path, records)


FORMATS: dict[str, Callable[[pathlib.Path, Labelled], None]] = {
    "records": _plain_records,
    "records.gz": _plain_records,
    "imagenet2012-validation.tfrecord-00000-of-00064": write_datasets_records,
    "tfds.gz": write_datasets_records,
    "validation-00000-of-00001.parquet": write_parquet,
    "imagenet-000000.tar": write_tar,
    "imagenet.tar.gz": write_tar,
}
"""Name of a file -> what writes it, with classes from 0."""


def compressed(content: bytes) -> bytes:
    """Compressed with gzip, always the same."""
    return gzip.compress(content, mtime=0)
