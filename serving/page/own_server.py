"""The page's own model server: a child process over a published tree."""

import contextlib
import pathlib
import re
import tempfile
from collections.abc import Sequence

from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving_configs.server.models_config import as_text

from ..attention.models import AttentionError
from ..model_server.launch import SERVING_GRPC, last_line, own_server_command, process_with_log
from ..model_server.servables.config import models_config
from .models import configured


class OwnServer:
    """Starts a server and does not wait until it serves.

    Args:
        root: directory of the models' base paths.
        names: the models to serve, each in the versions and with the labels that the tree's
            `models.config` has for it; in its latest version where there is none.

    Raises:
        ValueError: the `models.config` cannot be read; one line.
    """

    def __init__(self, root: pathlib.Path, names: Sequence[str]) -> None:
        self._names = names
        self._address = ""
        with contextlib.ExitStack() as stack:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="page-"))
            config = pathlib.Path(scratch) / "models.config"
            config.write_text(as_text(_config_of(root, names)), encoding="utf-8")
            command = [*own_server_command(), "--port=0", f"--model_config_file={config}"]
            # The labels are there before the versions are loaded.
            command.append("--allow_version_labels_for_unavailable_models")
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


def _config_of(root: pathlib.Path, names: Sequence[str]) -> ModelServerConfig:
    """The config of the tree for these models, with base paths where the tree is now."""
    config = models_config({name: str((root / name).resolve()) for name in names})
    of_tree = {model.name: model for model in configured(root)}
    for model in config.model_config_list.config:
        if model.name in of_tree:
            model.model_version_policy.CopyFrom(of_tree[model.name].model_version_policy)
            model.version_labels.update(of_tree[model.name].version_labels)
    return config
