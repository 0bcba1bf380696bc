"""The page's own model server: a child process over a published tree."""

import contextlib
import pathlib
import re
import tempfile
from collections.abc import Sequence

from serving_configs.server.models_config import as_text

from ..attention.models import AttentionError
from ..model_server.launch import SERVING_GRPC, last_line, own_server_command, process_with_log
from ..model_server.servables.config import models_config


class OwnServer:
    """Starts a server and does not wait until it serves.

    Args:
        root: directory of the models' base paths.
        names: the models to serve, each in its latest version.
    """

    def __init__(self, root: pathlib.Path, names: Sequence[str]) -> None:
        self._names = names
        self._address = ""
        with contextlib.ExitStack() as stack:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="page-"))
            config = pathlib.Path(scratch) / "models.config"
            base_paths = {name: str((root / name).resolve()) for name in names}
            config.write_text(as_text(models_config(base_paths)), encoding="utf-8")
            command = [*own_server_command(), "--port=0", f"--model_config_file={config}"]
            self._process, self._log = stack.enter_context(process_with_log(command))
            self._stack = stack.pop_all()

    def address(self) -> str:
        """The server's address.

        Raises:
            AttentionError: "loading", it does not serve yet; "away", it has ended.
        """
        status = self._process.poll()
        if status is not None:
            raise AttentionError(
                "away", f"the model server ended with status {status}: {last_line(self._log)}"
            )
        if not self._address:
            log = self._log.read_text(encoding="utf-8", errors="replace")
            match = re.search(rf"^{re.escape(SERVING_GRPC)}(.+)\n", log, re.MULTILINE)
            if match is None:
                raise AttentionError(
                    "loading", f"the model server is starting: it loads {', '.join(self._names)}"
                )
            self._address = match[1]
        return self._address

    def close(self) -> None:
        """Ends the server."""
        self._stack.close()
