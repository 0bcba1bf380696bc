"""The reason in messages as TensorFlow writes them."""

import pytest

from signatures.graph_errors import reason


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "assertion failed: [Input is empty. One of JPEG, PNG required.]\n"
            "\t [[{{node map/while/Assert}}]]",
            "Input is empty. One of JPEG, PNG required.",
        ),
        (
            "assertion failed: [block must be 0 to 23] [Condition x < y did not hold] [x] [24]",
            "block must be 0 to 23",
        ),
        (
            "Graph execution error:\n\nDetected at node DecodePng defined at (most recent call "
            "last):\n<stack traces unavailable>\nInvalid PNG data, size 70\n"
            "\t [[{{node DecodePng}}]] [Op:__inference_signature_wrapper_7]",
            "Invalid PNG data, size 70",
        ),
        (
            "{{function_node __wrapped__DecodePng_device_/job:localhost}} Invalid PNG  header, "
            "data size 9 [Op:DecodePng]",
            "Invalid PNG header, data size 9",
        ),
        ("", ""),
    ],
)
def test_the_reason_is_one_line_without_nodes(message: str, expected: str) -> None:
    assert reason(message) == expected
