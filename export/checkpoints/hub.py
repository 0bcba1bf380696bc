"""timm's weights from the model hub.

All of the downloading is `huggingface_hub`'s: its cache, resuming, progress bar and environment
(`HF_HOME`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`) work as always. It reads the environment
when it is imported, so it is imported at the first use.
"""

import dataclasses
import hashlib
import pathlib
import re

from signatures.messages import without_credentials

from ..errors import CheckpointError
from ..variants import Variant

_FILE = "model.safetensors"
_DEFAULT_REVISION = "main"

# The hub's entity tag is the content's SHA-256 for a large file, and Git's hash for a small one.
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class HubSource:
    """timm's repositories, `timm/<variant>.fb_dist_in1k`.

    Attributes:
        revision: branch, tag or commit; None for `main`.
    """

    revision: str | None = None
    trained: bool = True

    def locate(self, variant: Variant, cache: pathlib.Path) -> tuple[pathlib.Path, str]:
        """Downloads a variant's file into the hub's own cache, or finds it there.

        Returns:
            The file, and `hf://<repository>@<commit>/<file>`.

        Raises:
            CheckpointError: the file is not available, or its content has another digest than the
                hub states.
        """
        revision = self.revision or _DEFAULT_REVISION
        subject = f"--checkpoints hf: {variant.hub_repository} at revision {revision!r}"
        path = _download(variant.hub_repository, revision, subject)
        # .../snapshots/<commit>/<file> is a link to .../blobs/<entity tag>.
        commit, blob = path.parent.name, path.resolve()
        if _SHA256.fullmatch(blob.name):
            with open(blob, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != blob.name:
                raise CheckpointError(
                    f"{subject}: the content of {blob} has SHA-256 {digest}; expected its name; "
                    "remove it and run again"
                )
        return path, f"hf://{variant.hub_repository}@{commit}/{_FILE}"

    def architecture(self) -> Variant | None:
        return None


def _download(repository: str, revision: str, subject: str) -> pathlib.Path:
    try:
        import httpx2
        from huggingface_hub import errors, hf_hub_download
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"{subject}: {error.name} is not installed; run pip install 'cait-serving[hub]'"
        ) from None

    try:
        return pathlib.Path(hf_hub_download(repository, _FILE, revision=revision))
    except errors.GatedRepoError:
        problem = "access is restricted; request it on its page, then set a token in HF_TOKEN"
    except errors.RepositoryNotFoundError:
        problem = "no such repository, or no access to it; check HF_ENDPOINT and HF_TOKEN"
    except errors.RevisionNotFoundError:
        problem = "no such revision; name a branch, a tag or a commit with --revision"
    except errors.LocalEntryNotFoundError as error:
        cause = error.__cause__ or error
        problem = (
            f"not in the local cache, and the hub cannot be reached ({_first_line(cause)}); check "
            "the connection, HF_ENDPOINT and HF_HUB_OFFLINE"
        )
    except errors.EntryNotFoundError:
        problem = f"no file {_FILE} there; name another with --revision"
    except (errors.HfHubHTTPError, httpx2.HTTPError) as error:
        problem = f"the hub does not deliver {_FILE} ({_first_line(error)}); try again later"
    except (OSError, ValueError) as error:
        problem = f"{_FILE} cannot be downloaded ({_first_line(error)})"
    raise CheckpointError(f"{subject}: {problem}")


def _first_line(error: BaseException) -> str:
    """The first line of a message, without the library's advice after it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return without_credentials(lines[0]) if lines else type(error).__name__
