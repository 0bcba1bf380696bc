"""Kaggle Models on loopback: models, variations, versions, and the files that are sent for them."""

import base64
import copy
import dataclasses
import re
import threading
from typing import Any

from tests.support.loopback import Reply, Request

TOKEN = "KGAT_secret0123456789"
Files = dict[str, bytes]


@dataclasses.dataclass
class Variation:
    """A variation of a model.

    Attributes:
        fields: what its page shows.
        versions: the files of each version; the first has number 1. None for a deleted one.
        notes: of the versions.
    """

    fields: dict[str, Any]
    versions: list[Files | None]
    notes: list[str]


class Kaggle:
    """The site.

    Attributes:
        models: `<owner>/<slug>` -> what its page shows.
        variations: `<owner>/<model>/<slug>` -> variation.
        changes: the calls that change something.
        puts: the names of the files that were sent, in their order.
        refuse: pattern of a call, or of `PUT <name>` -> status; such requests are refused.
        endpoint: its address.
    """

    def __init__(self) -> None:
        self.models: dict[str, dict[str, Any]] = {}
        self.variations: dict[str, Variation] = {}
        self.changes: list[str] = []
        self.puts: list[str] = []
        self.refuse: dict[str, int] = {}
        self.endpoint = ""
        self._files: dict[str, tuple[str, bytes]] = {}
        self._lock = threading.Lock()

    def answer(self, request: Request) -> Reply:
        with self._lock:
            if request.method == "PUT":
                return self._put(request)
            if request.path.startswith("/file/"):
                return Reply(body=base64.urlsafe_b64decode(request.path.removeprefix("/file/")))
            credentials = f"Bearer {TOKEN}", "Basic " + base64.b64encode(b"me:a-key").decode()
            if request.headers.get("Authorization") not in credentials:
                return Reply(401, {"code": 401, "message": "Unauthenticated"})
            call = request.path.rpartition("/")[2]
            if refused := self._refused(call):
                return refused
            if re.match("Create|Update", call):
                self.changes.append(call)
            reply: Reply = getattr(self, f"_{call}")(request.json)
            return reply

    def _refused(self, what: str) -> Reply | None:
        for pattern, status in self.refuse.items():
            if re.fullmatch(pattern, what):
                return Reply(status, {"code": status, "message": f"no rights for {TOKEN}"})
        return None

    def _StartBlobUpload(self, body: dict[str, Any]) -> Reply:  # noqa: N802
        assert body["type"] == "MODEL"
        token = f"token-{len(self._files)}"
        self._files[token] = body["name"], b""
        return Reply(body={"token": token, "createUrl": f"{self.endpoint}/put/{token}?secret=1"})

    def _put(self, request: Request) -> Reply:
        token = request.path.removeprefix("/put/").partition("?")[0]
        name, _ = self._files[token]
        if refused := self._refused(f"PUT {name}"):
            return refused
        self._files[token] = name, request.body
        self.puts.append(name)
        return Reply()

    def _GetModel(self, body: dict[str, Any]) -> Reply:  # noqa: N802
        found = self.models.get(f"{body['ownerSlug']}/{body['modelSlug']}")
        return Reply(body=found) if found else Reply(404, {"code": 404, "message": "Not found"})

    def _CreateModel(self, body: dict[str, Any]) -> Reply:  # noqa: N802
        self.models[f"{body['ownerSlug']}/{body['slug']}"] = {**body, "id": 1}
        return Reply(body={"id": 1})

    def _UpdateModel(self, body: dict[str, Any]) -> Reply:  # noqa: N802
        model = self.models[f"{body['ownerSlug']}/{body['modelSlug']}"]
        model.update({name: _kept(body[name]) for name in _named(body)})
        return Reply(body={"id": 1})

    def _GetModelInstance(self, body: dict[str, Any]) -> Reply:  # noqa: N802
        found = self.variations.get(_slug(body))
        if found is None:
            return Reply(403, {"code": 403, "message": "Permission denied"})
        return Reply(body={**found.fields, "versionNumber": len(found.versions)})

    def _CreateModelInstance(self, body: dict[str, Any]) -> Reply:  # noqa: N802
        instance = body["body"]
        slug = _slug({**body, **instance})
        if slug in self.variations:
            return Reply(body={"error": "it exists", "errorCode": 409})
        fields = {"slug": instance["instanceSlug"], "licenseName": instance["licenseName"]}
        self.variations[slug] = Variation(fields, [self._received(instance)], [""])
        return Reply(body={"id": 2})

    def _CreateModelInstanceVersion(self, body: dict[str, Any]) -> Reply:  # noqa: N802
        variation = self.variations[_slug(body)]
        variation.versions.append(self._received(body["body"]))
        variation.notes.append(body["body"]["versionNotes"])
        return Reply(body={"id": 3})

    def _UpdateModelInstance(self, body: dict[str, Any]) -> Reply:  # noqa: N802
        fields = self.variations[_slug(body)].fields
        fields.update({name: _kept(body[name]) for name in _named(body)})
        return Reply(body={"id": 2})

    def _DownloadModelInstanceVersion(self, body: dict[str, Any]) -> Reply:  # noqa: N802
        files = self.variations[_slug(body)].versions[body["versionNumber"] - 1]
        content = (files or {}).get(body["path"])
        if content is None:
            return Reply(404, {"code": 404, "message": "Not found"})
        # A file is at another host, by an address that needs no credentials.
        place = base64.urlsafe_b64encode(content).decode()
        return Reply(302, b"", {"Location": f"{self.endpoint}/file/{place}"})

    def _received(self, directory: dict[str, Any]) -> Files:
        files = {}
        for file in directory.get("files") or ():
            name, content = self._files[file["token"]]
            files[name] = content
        for inner in directory.get("directories") or ():
            for name, content in self._received(inner).items():
                files[f"{inner['name']}/{name}"] = content
        return copy.deepcopy(files)


def _slug(body: dict[str, Any]) -> str:
    assert body["framework"] in ("TENSOR_FLOW_2", "MODEL_FRAMEWORK_TENSOR_FLOW_2"), body
    return f"{body['ownerSlug']}/{body['modelSlug']}/{body['instanceSlug']}"


def _named(body: dict[str, Any]) -> list[str]:
    """The fields that an update names: those alone change."""
    return list(body["updateMask"].split(","))


def _kept(value: Any) -> Any:
    return value.strip() if isinstance(value, str) else value
