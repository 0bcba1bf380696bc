"""Parameters of batching that a server is started with, and those that a version brings."""

import pathlib

import numpy as np
import pytest

from serving.errors import Code, ServingError
from serving.model_server.batching.parameters import BatchingParameters
from serving.model_server.flags import Options
from serving.model_server.server import ModelServer
from tests.support.batching import batch_threads, text, x
from tests.support.model_server import publish, running

pytestmark = pytest.mark.slow


def test_each_version_may_bring_its_own_parameters(
    told: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    config = "model_config_list {\n"
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
        publish(tmp_path / name / "1", told)
        config += f'config {{ name: "{name}" base_path: "{tmp_path / name}" '
        config += 'model_platform: "tensorflow" }\n'
    own = BatchingParameters(4, allowed_batch_sizes=(4,))
    (tmp_path / "with" / "1" / "batching_params.pbtxt").write_text(text(own))
    (tmp_path / "models.config").write_text(config + "}")
    # Of these the threads count alone; with the rest no queue could be made.
    common = BatchingParameters(0, num_batch_threads=3, thread_pool_name="shared")
    (tmp_path / "common.txt").write_text(text(common))
    with running(
        model_config_file=str(tmp_path / "models.config"),
        enable_batching=True,
        batching_parameters_file=str(tmp_path / "common.txt"),
        enable_per_model_batching_parameters=True,
    ) as server:
        assert server.predict("with", x(1))["rows"].tolist() == [4]
        assert server.predict("without", x(1))["rows"].tolist() == [1]
        assert server.predict("without", {"x": np.array([1], np.float32)}, "scalar")["y"] == 1
        if server.own is not None:
            assert batch_threads("shared_") == ["shared_0", "shared_1", "shared_2"]
        # A version with parameters that are wrong does not load; the one before it serves on.
        staged = tmp_path / "staged"
        publish(staged, told)
        (staged / "batching_params.pbtxt").write_text(
            "max_batch_size { value: 16 } allowed_batch_sizes: 8"
        )
        staged.rename(tmp_path / "with" / "2")
        server.until("with", {2: "END", 1: "AVAILABLE"})
        newest, _ = server.status("with").model_version_status
        assert (newest.status.error_code, newest.status.error_message) == (
            Code.INVALID_ARGUMENT,
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 8; "
            "expected 16",
        )
        assert server.predict("with", x(1))["rows"].tolist() == [4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "max_batch_size { value: 16 } allowed_batch_sizes: 8",
            "INVALID_ARGUMENT: Last entry in allowed_batch_sizes must match max_batch_size; last "
            "entry was 8; expected 16",
        ),
        (
            "num_batch_threads { value: 0 }",
            "INVALID_ARGUMENT: num_batch_threads must be positive; was 0",
        ),
        ("max_batch_size: 16", "INVALID_ARGUMENT: Invalid protobuf file: "),
    ],
)
def test_wrong_parameters_are_said_at_the_start(
    content: str, message: str, tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "b.txt"
    file.write_text(content)
    with pytest.raises(ServingError) as caught:
        ModelServer(
            Options(
                model_base_path=str(tmp_path),
                enable_batching=True,
                batching_parameters_file=str(file),
            )
        )
    assert str(caught.value).startswith(message)
