"""A published tree of a tiny model of both heads, put there by the pipeline; hubs on loopback."""

import pathlib
import shutil
from collections.abc import Iterator

import pytest

from tests.support.hf_uploads import TOKEN as HF_TOKEN
from tests.support.hf_uploads import HuggingFace
from tests.support.kaggle_uploads import TOKEN as KAGGLE_TOKEN
from tests.support.kaggle_uploads import Kaggle
from tests.support.loopback import answering


@pytest.fixture
def tree(tiny_tree: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy that a test may write to; its models.config names the copy's own paths."""
    copy = pathlib.Path(shutil.copytree(tiny_tree, tmp_path / "tree"))
    config = copy / "serving" / "models.config"
    config.write_text(config.read_text().replace(str(tiny_tree), str(copy)))
    return copy


@pytest.fixture
def hugging_face(monkeypatch: pytest.MonkeyPatch) -> Iterator[HuggingFace]:
    """The hub on loopback, with a token for it."""
    from huggingface_hub import constants

    hub = HuggingFace()
    with answering(hub.answer) as hub.endpoint:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", HF_TOKEN)
        yield hub


@pytest.fixture
def kaggle(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> Iterator[Kaggle]:
    """Kaggle on loopback, with a token for it."""
    from kagglehub import clients
    from kagglesdk import kaggle_env

    # It looks for the module of every frame on the stack: seconds a call among a test's modules.
    monkeypatch.setattr(clients, "get_user_agent", lambda: "kagglehub")
    kaggle = Kaggle()
    with answering(kaggle.answer) as kaggle.endpoint:
        # The library has no setting for another address than one of its own.
        monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, kaggle.endpoint)
        for name in ("KAGGLE_API_ENVIRONMENT", "KAGGLE_USERNAME", "KAGGLE_KEY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "kaggle"))
        monkeypatch.setenv("KAGGLE_API_TOKEN", KAGGLE_TOKEN)
        yield kaggle
