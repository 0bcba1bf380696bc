"""TensorFlow's error messages for a reader."""

import re


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
    return " ".join(text.split())
