"""The reason in messages as TensorFlow writes them."""

import pytest

from signatures import BOTH, signatures_for
from signatures.graph_errors import reason
from tests.support import recorded
from tests.support.manifests import GEOMETRY


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
        (
            "Shape of tensor _arg_bytes_logits_image_bytes_0_0 [] is not compatible with expected "
            "shape [?].\n\t [[{{function_node __inference_bytes_logits_8}}{{node EnsureShape}}]]",
            "image_bytes of bytes_logits: shape []; expected [?].",
        ),
        ("", ""),
    ],
)
def test_the_reason_is_one_line_without_nodes(message: str, expected: str) -> None:
    assert reason(message) == expected


def test_every_wrong_shape_that_a_real_server_reported_names_the_input() -> None:
    """The messages are TF Serving's, with the names that it gives the inputs of a signature."""
    calls = recorded.lines("grpc")
    wrong = [call for call in calls if "is not compatible with" in call.get("message", "")]
    assert len(wrong) >= 8
    for call in wrong:
        said = reason(call["message"])
        signature = call["request"]["model_spec"].get("signature_name", "serving_default")
        name = said.partition(" of ")[0]
        assert name in call["request"]["inputs"]
        assert said.startswith(f"{name} of {signature}: shape ["), said


def test_the_inputs_of_the_contract_are_known_by_name() -> None:
    for head in BOTH:
        for signature in signatures_for(head, GEOMETRY).values():
            for tensor in signature.inputs:
                message = (
                    f"Shape of tensor _arg_{signature.name}_{tensor.name}_0_0 [2] is not "
                    "compatible with expected shape [?,3]."
                )
                expected = f"{tensor.name} of {signature.name}: shape [2]; expected [?,3]."
                assert reason(message) == expected
