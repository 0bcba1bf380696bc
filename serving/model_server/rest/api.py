"""The REST API: the calls that answer each path, and the status of errors.

Source: `http_rest_api_handler.cc`, `http_rest_api_util.cc` and `http_server.cc` of
tensorflow/serving's model_servers.
"""

import dataclasses
import logging
import re
import time
import urllib.parse
import zlib
from collections.abc import Callable
from typing import Any

from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    regression_pb2,
)

from ...errors import Code, error_from, invalid_argument
from ..calls.classify import CLASSIFY
from ..calls.examples import ExampleMethod
from ..calls.metadata import SIGNATURE_DEF, get_model_metadata
from ..calls.model_service import get_model_status
from ..calls.predict import predict_arrays
from ..calls.regress import REGRESS
from ..servables.core import ServerCore
from ..servables.servable import DEFAULT_SIGNATURE
from .document import Document, format_error, parse_document, to_bytes
from .examples import fill_examples
from .inputs import input_arrays
from .outputs import (
    classifications_json,
    columns_json,
    error_json,
    regressions_json,
    rows_json,
)

_log = logging.getLogger(__name__)

PREFIX = re.compile(r"(?i)/v1/")
"""Prefix of the paths of this API."""

MOST_UNCOMPRESSED = 100 * 1024 * 1024
"""The most bytes of an uncompressed body (`kMaxUncompressedBytes` in gzip_zlib.h)."""

HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
"""The HTTP status of each code."""

Observer = Callable[[str, str, Code, float], None]
"""Called after every call with the model, the method that runs it, the code and the seconds.

The model is "" where the path names none; the method is "" where no model is run.
"""

_EXAMPLE_METHODS: dict[str, tuple[ExampleMethod, Callable[..., Any], Callable[[Any], str]]] = {
    "classify": (CLASSIFY, classification_pb2.ClassificationRequest, classifications_json),
    "regress": (REGRESS, regression_pb2.RegressionRequest, regressions_json),
}
_CHOICE = r"(?:(?:/versions/(?P<version>\d+))|(?:/labels/(?P<label>[^/:]+)))?"
_PATHS = {
    "POST": rf"/v1/models/(?P<model>[^/:]+){_CHOICE}:(?P<what>(?-i:classify|regress|predict))",
    "GET": rf"/v1/models(?:/(?P<model>[^/:]+))?{_CHOICE}(?:/(?P<what>(?-i:metadata)))?",
}
_MOST_VERSION = 2**63 - 1
_WEB_ORIGIN = re.compile("https?://")


@dataclasses.dataclass(frozen=True)
class Reply:
    """A reply: its HTTP status, and its body of JSON, which may be empty."""

    status: int
    body: bytes


class RestApi:
    """Answers REST calls. Threads may share it.

    Args:
        core: the models.
        timeout: seconds that a model may run for a call; None is no limit.
        observer: called after every call.
    """

    def __init__(
        self, core: ServerCore, timeout: float | None, observer: Observer | None = None
    ) -> None:
        self._core = core
        self._timeout = timeout
        self._observer = observer

    def answer(self, method: str, path: str, body: bytes, compressed: bool = False) -> Reply:
        """Answers a call.

        Args:
            method: HTTP method.
            path: path with its query, as it was sent.
            body: body as it was sent.
            compressed: whether the body is compressed with gzip.
        """
        start = time.perf_counter()
        model, api, code = "", "", Code.OK
        try:
            match = re.fullmatch(_PATHS.get(method, "$^"), path, re.ASCII | re.IGNORECASE)
            if match is None:
                raise invalid_argument(f"Malformed request: {method} {path}")
            model = urllib.parse.unquote(match["model"] or "")
            api = match["what"] if method == "POST" else ""
            spec = _model_spec(model, match)
            if spec is None:
                # The real server answers without a message.
                code, text = Code.INVALID_ARGUMENT, ""
            elif method == "POST":
                document = parse_document(_uncompressed(body) if compressed else body)
                text = self._run(api, spec, document)
            else:
                text = self._describe(match["what"] or "", spec)
        except RecursionError:
            # The real server has no limit and overflows its stack.
            code = Code.INVALID_ARGUMENT
            text = error_json("JSON Parse error: The document is nested too deeply.")
        except Exception as failure:
            error = error_from(failure)
            if error is not failure:
                _log.exception("%s %s failed", method, path)
            code, text = error.code, error_json(error.message)
        self._observe(model, api, code, time.perf_counter() - start)
        return Reply(HTTP_STATUS[code], _encoded(text))

    def preflight(self, origin: str) -> Reply:
        """Answers an OPTIONS call, which a browser makes before it posts JSON to another origin.

        Args:
            origin: value of the header; any that is not a web page's is refused without a message.
        """
        code = Code.OK if _WEB_ORIGIN.search(origin) else Code.FAILED_PRECONDITION
        self._observe("", "", code, 0.0)
        return Reply(HTTP_STATUS[code], b"")

    def _observe(self, model: str, api: str, code: Code, seconds: float) -> None:
        if self._observer is not None:
            self._observer(model, api, code, seconds)

    def _run(self, what: str, spec: model_pb2.ModelSpec, document: Document) -> str:
        signature = document.get("signature_name", "")
        if not isinstance(signature, str):
            raise format_error(
                document, "not formatted correctly. 'signature_name' key must be a string value."
            )
        spec.signature_name = to_bytes(signature).decode("utf-8", "replace")
        if what == "predict":
            return self._predict(spec, document)
        method, request_type, result_json = _EXAMPLE_METHODS[what]
        request = request_type(model_spec=spec)
        fill_examples(document, request.input)
        return result_json(method.answer(self._core, request, self._timeout).result)

    def _predict(self, spec: model_pb2.ModelSpec, document: Document) -> str:
        with self._core.handle(spec) as handle:
            name = spec.signature_name or DEFAULT_SIGNATURE
            signature = handle.servable.signatures.get(name)
            if signature is None:
                raise invalid_argument(
                    f'Serving signature name: "{name}" not found in signature def'
                )
            if not signature.inputs:
                raise invalid_argument(
                    "Failed to get input map for signature: " + (spec.signature_name or "DEFAULT")
                )
            arrays, by_rows = input_arrays(document, signature.inputs)
            outputs = predict_arrays(handle.servable, signature, arrays, (), self._timeout)
        return rows_json(outputs) if by_rows else columns_json(outputs)

    def _describe(self, what: str, spec: model_pb2.ModelSpec) -> str:
        if not spec.name:
            raise invalid_argument("Missing model name in request.")
        if not what:
            status = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
            return _message_json(get_model_status(self._core, status))
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec, metadata_field=[SIGNATURE_DEF]
        )
        response = get_model_metadata(self._core, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata[SIGNATURE_DEF].Unpack(signatures)
        return (
            f'{{\n"model_spec":{_message_json(response.model_spec)},\n"metadata": '
            f'{{"{SIGNATURE_DEF}": {_message_json(signatures)}}}\n}}\n'
        )


def _model_spec(name: str, match: re.Match[str]) -> model_pb2.ModelSpec | None:
    """The model and version that a path names, or None if the version is above 64 bits."""
    spec = model_pb2.ModelSpec(name=name)
    if match["version"]:
        # Python refuses to convert thousands of digits.
        version = int(match["version"]) if len(match["version"]) < 1000 else _MOST_VERSION + 1
        if version > _MOST_VERSION:
            return None
        spec.version.value = version
    if match["label"]:
        spec.version_label = urllib.parse.unquote(match["label"])
    return spec


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # The message quotes half of a surrogate pair, which the request escaped.
        return text.encode("utf-8", "replace")


def _uncompressed(body: bytes) -> bytes:
    stream = zlib.decompressobj(wbits=31)
    try:
        data = stream.decompress(body, MOST_UNCOMPRESSED)
    except zlib.error:
        data = b""
    if not stream.eof:
        raise invalid_argument(
            "Failed to uncompress the gzipped body, which may be of "
            f"{MOST_UNCOMPRESSED} bytes at most"
        )
    return data


def _message_json(message: Any) -> str:
    text: str = json_format.MessageToJson(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        indent=1,
    )
    return text
