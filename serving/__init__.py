"""Clients of published models, and a development server with TF Serving's API.

Imports `signatures` and `serving_configs`. The rooms: page -> attention -> client; attention and
page start a model server; `command_line`, `errors`, `http_guard`, `tensors` and `text_proto` are
shared.
Importing this package does not load TensorFlow.
"""

from .errors import Code, ServingError

__all__ = ["Code", "ServingError"]
