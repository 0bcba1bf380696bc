"""TensorFlow's error messages for a reader."""

import re

# A served signature calls its inputs `_arg_SIGNATURE_INPUT_0_0`.
_WRONG_SHAPE = re.compile(
    r"Shape of tensor _arg_(\w+)_(images|image_bytes|inputs|block)_\d+_\d+ (\[.*?\]) "
    r"is not compatible with expected shape (\[.*?\])"
)


def is_of_graph(message: str) -> bool:
    """Whether a graph failed: TensorFlow's message then names a node of it."""
    return "{{node " in message


def reason(message: str) -> str:
    """Why a graph failed, in one line, without stack traces, node names and frames of assertions.

    Examples of messages: `Invalid PNG data\\n\\t [[{{node DecodePng}}]]` and
    `assertion failed: [Input is empty.] [Condition x > 0 did not hold.]`.
    """
    text = message.rsplit("<stack traces unavailable>", 1)[-1]
    _, is_assertion, asserted = text.partition("assertion failed: [")
    if is_assertion:
        text = asserted.partition("]")[0]
    else:
        text = re.sub(r"\{\{.*?\}\}", "", text.strip().partition("\n")[0]).partition(" [Op:")[0]
    text = _WRONG_SHAPE.sub(r"\2 of \1: shape \3; expected \4", text)
    return " ".join(text.split())
