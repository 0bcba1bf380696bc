"""What Beam says of itself and is not shown."""

import logging

import pytest

from pipelines.runtime.quiet import load_beam

# As Beam logs what a portable engine says.
STACK = (
    "java.lang.Exception: lost\n\tat org.apache.flink.runtime.taskmanager.Task.run(Task.java:566)"
)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (STACK, False),
        ("org.apache.flink.runtime.JobException: Recovery is suppressed", False),
        ("a worker has no memory left", True),
    ],
)
def test_a_stack_of_java_s_is_left_out(
    message: str, shown: bool, caplog: pytest.LogCaptureFixture
) -> None:
    load_beam()
    caplog.set_level(logging.ERROR)
    logging.log(logging.ERROR, "%s", message)
    assert bool(caplog.records) == shown


def test_a_wheel_for_workers_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    load_beam()
    caplog.set_level(logging.WARNING)
    logging.getLogger("apache_beam.runners.portability.stager").warning("must be compatible")
    assert caplog.records == []
