"""A store of which nobody has the credentials: said at once, and not after minutes."""

import pathlib
import re

import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from export.errors import UserError
from pipelines.store.base import open_store


def test_a_store_without_credentials_is_a_wrong_input(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    # The role of a machine would be asked for.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    FileSystems.set_options(PipelineOptions([]))
    with pytest.raises(UserError) as refused:
        open_store("s3://bucket/without-credentials/")
    assert re.match(
        r"s3://bucket/without-credentials: no credentials for it here; expected AWS_ACCESS_KEY_ID ",
        str(refused.value),
    )
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "something")
    open_store("s3://bucket/without-credentials/")
