"""Uploading to Hugging Face, with `huggingface_hub`.

Every model of a tree is a repository, `<owner>/<model>`. A version is a commit there with the tag
`v<version>`; `main` has the files and the card of the latest one. The labels of servers, such as
`stable`, are tags, too.

Credentials, and where they come from, are the library's: HF_TOKEN, or what `hf auth login` saved.
So is HF_ENDPOINT. It is imported at the first use.
"""

import contextlib
import hashlib
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ..errors import ConfigError
from ..server.models_config import PREVIOUS
from ..tree.paths import MANIFEST
from ..tree.published import PublishedModel
from .card import CARD, model_card, version_tag
from .local import (
    Upload,
    described,
    files_of,
    first_line,
    identity_of,
    labels_to_upload,
    models_to_upload,
)

# Files of a repository that are not a version's.
_KEPT = (".gitattributes", CARD)
# A tag with a version's name would be taken for the version, and `main` for the branch.
_TAKEN = re.compile(r"v\d+|main")


def upload_to_hugging_face(upload: Upload, names: Collection[str]) -> None:
    """Uploads versions that are not there, oldest first, cards that differ, and labels.

    What is there already is left as it is, large files of a version that was broken off, too: the
    same call goes on where the last one ended.

    Args:
        upload: the tree and the owner.
        names: of the models; empty for all.

    Raises:
        ConfigError: the library or credentials are missing, the hub refuses, or a version may not
            be uploaded.
        OSError: a file cannot be read.
    """
    models = models_to_upload(upload.publish_to, names)
    labels = {model: labels_to_upload(upload.publish_to, model) for model in models}
    for model, of_model in labels.items():
        for label in of_model:
            if _TAKEN.fullmatch(label):
                raise ConfigError(
                    f"label {label!r} of {model}: it cannot be a tag, since the hub has versions "
                    "as v1, v2 and so on, and main; expected another name"
                )
    api = _api()
    with _refusals(upload.owner):
        api.whoami()
        for model, versions in models.items():
            repository = _Repository(api, f"{upload.owner}/{model}")
            _upload_model(upload, repository, versions)
            _upload_labels(upload, repository, labels[model])


def _upload_model(upload: Upload, hub: "_Repository", versions: Sequence[PublishedModel]) -> None:
    if hub.tags is None:
        upload.do(hub.name, "created, private", hub.create)
    uploaded = 0
    for model in versions:
        what = f"version {model.version} of {model.model}"
        tag = version_tag(model.version)
        if hub.has(model):
            upload.there(f"{what} ({hub.name}, tag {tag})")
            continue
        upload.require_good(model)
        upload.do(
            f"{what} ({described(model)})",
            f"uploaded to {hub.name}, tag {tag}",
            lambda model=model: hub.upload(model, upload.owner),  # type: ignore[misc]
        )
        uploaded = model.version
    latest = versions[-1]
    if uploaded == latest.version:
        return  # With its card.
    card = model_card(latest, upload.owner).encode()
    what = f"card of {hub.name}"
    if hub.is_main({str(MANIFEST): identity_of(latest)[str(MANIFEST)], CARD: card}):
        upload.there(what)
    else:
        upload.do(what, "written", lambda: hub.commit(latest, upload.owner))


def _upload_labels(upload: Upload, hub: "_Repository", labels: Mapping[str, int]) -> None:
    tags = hub.tags or {}
    for label, version in sorted(labels.items()):
        what = f"label {label} of {hub.name}"
        of_version = tags.get(version_tag(version))
        if of_version and tags.get(label) == of_version:
            upload.there(f"{what} ({version_tag(version)})")
        else:
            upload.do(
                what,
                f"set to {version_tag(version)}",
                lambda label=label, version=version: hub.move(label, version),  # type: ignore[misc]
            )
    if PREVIOUS in tags and PREVIOUS not in labels:
        upload.do(f"label {PREVIOUS} of {hub.name}", "removed", lambda: hub.remove(PREVIOUS))


class _Repository:
    """A model's repository.

    Attributes:
        name: `<owner>/<model>`.
        tags: tag -> its commit; None where there is no such repository.
    """

    def __init__(self, api: Any, name: str) -> None:
        from huggingface_hub.errors import RepositoryNotFoundError

        self._api, self.name = api, name
        self.tags: dict[str, str] | None = None
        with contextlib.suppress(RepositoryNotFoundError):
            self.tags = {tag.name: tag.target_commit for tag in api.list_repo_refs(name).tags}

    def create(self) -> None:
        self._api.create_repo(self.name, private=True)
        self.tags = {}

    def has(self, model: PublishedModel) -> bool:
        """Whether a version is there.

        Raises:
            ConfigError: its tag is of other files.
        """
        tag = version_tag(model.version)
        if tag not in (self.tags or {}):
            return False
        mine = identity_of(model)
        there = self._same(tag, mine)
        if not there[str(MANIFEST)]:
            raise ConfigError(
                f"{self.name} has another version {model.version}, from another tree; expected the "
                f"same files; remove its tag {tag}, or upload with another --owner"
            )
        # A version that was signed after it was uploaded is uploaded again.
        return all(there.values())

    def is_main(self, files: Mapping[str, bytes]) -> bool:
        """Whether the branch `main` has these files."""
        return self.tags is not None and all(self._same("main", files).values())

    def upload(self, model: PublishedModel, owner: str) -> None:
        self._tag(version_tag(model.version), self.commit(model, owner))

    def commit(self, model: PublishedModel, owner: str) -> str:
        """Makes `main` a version with its card, and returns the commit."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete
        from huggingface_hub.hf_api import RepoFile

        files = files_of(model)
        entries = self._api.list_repo_tree(self.name, recursive=True)
        there = [entry.path for entry in entries if isinstance(entry, RepoFile)]
        card = model_card(model, owner).encode()
        commit = self._api.create_commit(
            self.name,
            [
                *(CommitOperationAdd(name, model.directory / name) for name in files),
                CommitOperationAdd(CARD, card),
                *(CommitOperationDelete(name) for name in there if name not in (*files, *_KEPT)),
            ],
            commit_message=f"Version {model.version}",
        )
        return str(commit.oid)

    def move(self, label: str, version: int) -> None:
        self._tag(label, (self.tags or {})[version_tag(version)])

    def remove(self, tag: str) -> None:
        self._api.delete_tag(self.name, tag=tag)
        self.tags = {name: commit for name, commit in (self.tags or {}).items() if name != tag}

    def _tag(self, tag: str, commit: str) -> None:
        tags = self.tags or {}
        if tags.get(tag) == commit:
            return
        if tag in tags:
            self.remove(tag)
        self._api.create_tag(self.name, tag=tag, revision=commit)
        self.tags = {**(self.tags or {}), tag: commit}

    def _same(self, revision: str, files: Mapping[str, bytes]) -> dict[str, bool]:
        found = self._api.get_paths_info(self.name, list(files), revision=revision)
        by_path = {entry.path: entry for entry in found}
        return {name: _is(by_path.get(name), content) for name, content in files.items()}


def _is(entry: Any, content: bytes) -> bool:
    """Whether a file on the hub has a content, by its digest there."""
    if entry is None or entry.size != len(content):
        return False
    if entry.lfs is not None:
        return bool(entry.lfs.sha256 == hashlib.sha256(content).hexdigest())
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return bool(entry.blob_id == git)


def _api() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.utils
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"upload hf: {error.name} is not installed; run pip install 'cait-serving[upload]'"
        ) from None
    utils: Any = huggingface_hub.utils
    utils.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        utils.disable_progress_bars()
    if huggingface_hub.get_token() is None:
        raise ConfigError(
            "upload hf: no credentials; expected HF_TOKEN, or what hf auth login saves; a token "
            "with the right to write is made on Hugging Face's settings page"
        )
    return huggingface_hub.HfApi()


@contextlib.contextmanager
def _refusals(owner: str) -> Iterator[None]:
    """Turns what the library raises into one line. Its texts may have addresses with tokens."""
    import httpx2
    from huggingface_hub import constants, errors

    try:
        yield
    except errors.HfHubHTTPError as error:
        raise ConfigError(f"upload hf: {_reason(error, owner)}") from None
    except httpx2.HTTPError as error:
        raise ConfigError(
            f"upload hf: {constants.ENDPOINT} cannot be reached ({type(error).__name__}); check "
            "the connection and HF_ENDPOINT"
        ) from None
    except (RuntimeError, ValueError) as error:
        if isinstance(error.__cause__, errors.HfHubHTTPError):
            raise ConfigError(f"upload hf: {_reason(error.__cause__, owner)}") from None
        raise


def _reason(error: Any, owner: str) -> str:
    from huggingface_hub import get_token

    status = error.response.status_code
    said = first_line(error.server_message or error.response.reason_phrase, [get_token() or ""])
    if status == 401:
        return f"the hub refuses the credentials ({status} {said}); make a new token"
    if status == 403:
        return f"the token may not write models of {owner} ({status} {said}); check --owner"
    return f"the hub answers {status} {said}; run the same command again: it goes on where it ended"
