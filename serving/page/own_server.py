"""A model server of the page's own: a child process over a published tree."""

import pathlib
import subprocess
import tempfile
import threading
from collections.abc import Sequence

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from ..attention.models import AttentionError
from ..model_server.launch import own_server_command, own_server_environment
from ..model_server.servables.config import PLATFORM
from ..model_server.server import GRACE

_READY = "model_server: serving gRPC on "


class OwnServer:
    """Starts a server at once and does not wait for it.

    Args:
        root: directory of the models' base paths.
        names: which of them are served, each in its latest version.
    """

    def __init__(self, root: pathlib.Path, names: Sequence[str]) -> None:
        self._names = names
        config = ModelServerConfig()
        for name in names:
            config.model_config_list.config.add(
                name=name, base_path=str((root / name).resolve()), model_platform=PLATFORM
            )
        self._directory = tempfile.TemporaryDirectory(prefix="page-")
        path = pathlib.Path(self._directory.name) / "models.config"
        path.write_text(text_format.MessageToString(config), encoding="utf-8")
        self._errors = (path.parent / "errors").open("w+", encoding="utf-8", errors="replace")
        self._address = ""
        self._process = subprocess.Popen(
            [*own_server_command(), "--port=0", f"--model_config_file={path}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=own_server_environment(),
        )
        self._reader = threading.Thread(target=self._read, name="own-server", daemon=True)
        self._reader.start()

    def address(self) -> str:
        """Where it serves.

        Raises:
            AttentionError: "loading", it does not serve yet; "away", it has ended.
        """
        status = self._process.poll()
        if status is not None:
            raise AttentionError(
                "away", f"the model server ended with status {status}: {self._last_error()}"
            )
        if not self._address:
            raise AttentionError(
                "loading", f"the model server is starting: it loads {', '.join(self._names)}"
            )
        return self._address

    def close(self) -> None:
        """Ends it."""
        self._process.terminate()
        try:
            self._process.wait(GRACE + 10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()
        self._directory.cleanup()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(_READY):
                self._address = line.removeprefix(_READY).strip()

    def _last_error(self) -> str:
        self._errors.seek(0)
        lines = [line for line in self._errors.read().splitlines() if line.strip()]
        return lines[-1] if lines else "it said nothing"
