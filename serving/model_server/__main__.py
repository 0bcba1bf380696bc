"""`python -m serving.model_server`: serves published models by TF Serving's API.

It takes the flags of `serving.model_server.flags`, loads the models and prints its addresses. On
SIGTERM it answers the calls in flight and ends.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import version

from signatures.program import run
from signatures.quiet import load_tensorflow

from ..command_line import UsageError, fail
from ..errors import Code, ServingError
from .flags import PROG, Options, parse_flags
from .launch import SERVING_GRPC
from .server import ModelServer

_WAKE_SECONDS = 1.0
_LABEL_REFUSED = "Request to assign label"
_START_WITH_LABELS = (
    "a server that starts takes labels only with --allow_version_labels_for_unavailable_models"
)


def main(argv: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Runs a server until SIGTERM or SIGINT.

    Args:
        argv: arguments; by default those of the process.
        prog: name of the command in its help.

    Returns:
        The exit status: 0 after a signal, 1 if the server did not start, 2 for a wrong flag.
    """
    try:
        options = parse_flags(sys.argv[1:] if argv is None else argv, prog)
    except UsageError as error:
        return fail("model_server", error)
    if options.version:
        print(f"TensorFlow ModelServer: cait-serving, API {version('tensorflow-serving-api')}")
        print(f"TensorFlow Library: {version('tensorflow')}")
        return 0
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    load_tensorflow()
    return _serve(options, ended)


def _serve(options: Options, ended: threading.Event) -> int:
    server = None
    try:
        server = ModelServer(options)
        port = server.start(ended.is_set)
    except ServingError as error:
        if server is not None:
            server.stop(0)
        if error.code == Code.CANCELLED and ended.is_set():
            return 0
        hint = f"; {_START_WITH_LABELS}" if _LABEL_REFUSED in error.message else ""
        return fail("model_server", f"failed to start: {error}{hint}", 1)
    print(f"{SERVING_GRPC}{options.host}:{port}", flush=True)
    if options.rest_api_port:
        print(f"model_server: serving REST on {options.host}:{options.rest_api_port}", flush=True)
    # The handler of a signal runs in this thread, which one that another thread got does not wake.
    while not ended.wait(_WAKE_SECONDS):
        pass
    if not server.stop():
        # The thread of a running call cannot be ended and would keep the process alive.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
