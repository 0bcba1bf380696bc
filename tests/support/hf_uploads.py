"""Hugging Face's hub on loopback: repositories, commits, tags and large files."""

import base64
import dataclasses
import hashlib
import json
import re
import threading
import urllib.parse
from collections.abc import Callable

from tests.support.loopback import Reply, Request

TOKEN = "hf_secret0123456789"
Tree = dict[str, bytes]


@dataclasses.dataclass
class Repository:
    """A repository.

    Attributes:
        private: who may see it.
        commits: commit -> its files.
        main: the latest.
        tags: tag -> its commit.
        messages: of the commits, in their order.
    """

    private: bool
    commits: dict[str, Tree] = dataclasses.field(default_factory=dict)
    main: str = ""
    tags: dict[str, str] = dataclasses.field(default_factory=dict)
    messages: list[str] = dataclasses.field(default_factory=list)

    def at(self, revision: str) -> Tree | None:
        commit = self.main if revision == "main" else self.tags.get(revision, revision)
        return self.commits.get(commit)

    def add(self, tree: Tree, message: str) -> str:
        self.main = hashlib.sha1(f"{len(self.commits)} {sorted(tree)}".encode()).hexdigest()
        self.commits[self.main] = tree
        self.messages.append(message)
        return self.main


class HuggingFace:
    """The hub.

    Attributes:
        repositories: name -> repository.
        large: SHA-256 -> content of large files, which are graphs and variables.
        changes: method and path of every request that changes something.
        puts: SHA-256 of the large files that were sent, in their order.
        refuse: method and pattern of a path -> status; such requests are refused.
        hold: called before a large file is taken.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.changes: list[str] = []
        self.puts: list[str] = []
        self.refuse: dict[str, int] = {}
        self.hold: Callable[[], object] = lambda: None
        self.endpoint = ""
        self._lock = threading.Lock()

    def answer(self, request: Request) -> Reply:
        line = f"{request.method} {request.path}"
        if request.method == "PUT":
            self.hold()
        with self._lock:
            for pattern, status in self.refuse.items():
                if re.fullmatch(pattern, line):
                    return Reply(status, {"error": f"no rights for {TOKEN}"})
            if request.method == "PUT":
                return self._put(request)
            if request.headers.get("authorization") != f"Bearer {TOKEN}":
                return Reply(401, {"error": "Invalid credentials in Authorization header"})
            return self._api(line, request)

    def _put(self, request: Request) -> Reply:
        oid = hashlib.sha256(request.body).hexdigest()
        assert request.path == f"/large/{oid}"
        self.large[oid] = request.body
        self.puts.append(oid)
        return Reply()

    def _api(self, line: str, request: Request) -> Reply:
        if line == "GET /api/whoami-v2":
            return Reply(body={"name": "somebody", "orgs": [], "type": "user"})
        if line == "POST /api/validate-yaml":
            assert request.json["content"].startswith("---\nlicense: ")
            return Reply(body={"errors": [], "warnings": []})
        if line == "POST /api/repos/create":
            self.changes.append(line)
            name = f"{request.json['organization']}/{request.json['name']}"
            private = request.json.get("private", request.json.get("visibility") == "private")
            self.repositories[name] = Repository(private)
            self.repositories[name].add({".gitattributes": b"*.pb filter=lfs\n"}, "initial commit")
            return Reply(body={"url": f"{self.endpoint}/{name}", "name": name, "id": name})
        found = re.match(
            r"(?:GET|POST|DELETE) (?:/api/models)?/([\w-]+/[\w-]+)(?:\.git/info)?/(.*)", line
        )
        assert found, line
        repository = self.repositories.get(found[1])
        if repository is None:
            return Reply(404, {"error": "no such"}, {"X-Error-Code": "RepoNotFound"})
        what, _, rest = found[2].partition("?")[0].partition("/")
        rest = urllib.parse.unquote(rest)
        if request.method != "GET" and what in ("commit", "tag"):
            self.changes.append(line)
        return {
            "refs": self._refs,
            "revision": self._revision,
            "tree": self._tree,
            "paths-info": self._paths,
            "preupload": self._preupload,
            "lfs": self._batch,
            "commit": self._commit,
            "tag": self._tag,
        }[what](repository, rest, request)

    def _name_of(self, repository: Repository) -> str:
        return next(name for name, found in self.repositories.items() if found is repository)

    def _revision(self, repository: Repository, rest: str, request: Request) -> Reply:
        assert rest == "main"
        return Reply(body={"id": self._name_of(repository), "sha": repository.main, "tags": []})

    def _refs(self, repository: Repository, rest: str, request: Request) -> Reply:
        tags = [
            {"name": name, "ref": f"refs/tags/{name}", "targetCommit": commit}
            for name, commit in repository.tags.items()
        ]
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repository.main}
        return Reply(body={"branches": [main], "converts": [], "tags": tags})

    def _tree(self, repository: Repository, rest: str, request: Request) -> Reply:
        tree = repository.at(rest)
        assert tree is not None
        return Reply(body=[_entry(path, content) for path, content in tree.items()])

    def _paths(self, repository: Repository, rest: str, request: Request) -> Reply:
        tree = repository.at(rest)
        if tree is None:
            return Reply(404, {"error": "no such"}, {"X-Error-Code": "RevisionNotFound"})
        paths = urllib.parse.parse_qs(request.body.decode())["paths"]
        return Reply(body=[_entry(path, tree[path]) for path in paths if path in tree])

    def _preupload(self, repository: Repository, rest: str, request: Request) -> Reply:
        tree = repository.at(rest) or {}
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if _is_large(file["path"]) else "regular",
                "shouldIgnore": False,
                "oid": _oid(file["path"], tree[file["path"]]) if file["path"] in tree else None,
            }
            for file in request.json["files"]
        ]
        return Reply(body={"files": files})

    def _batch(self, repository: Repository, rest: str, request: Request) -> Reply:
        objects = []
        for entry in request.json["objects"]:
            upload = {"href": f"{self.endpoint}/large/{entry['oid']}"}
            missing = {"actions": {"upload": upload}} if entry["oid"] not in self.large else {}
            objects.append({**entry, **missing})
        return Reply(body={"transfer": "basic", "objects": objects})

    def _commit(self, repository: Repository, rest: str, request: Request) -> Reply:
        assert rest == "main"
        tree = dict(repository.at("main") or {})
        message = ""
        for entry in map(json.loads, request.body.splitlines()):
            value = entry["value"]
            if entry["key"] == "header":
                message = value["summary"]
            elif entry["key"] == "file":
                tree[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                tree[value["path"]] = self.large[value["oid"]]
            else:
                assert entry["key"] == "deletedFile"
                del tree[value["path"]]
        commit = repository.add(tree, message)
        url = f"{self.endpoint}/{self._name_of(repository)}/commit/{commit}"
        return Reply(body={"commitUrl": url, "commitOid": commit})

    def _tag(self, repository: Repository, rest: str, request: Request) -> Reply:
        if request.method == "DELETE":
            del repository.tags[rest]
            return Reply()
        tag = request.json["tag"]
        if tag in repository.tags:
            return Reply(409, {"error": "the tag exists"})
        assert rest in repository.commits
        repository.tags[tag] = rest
        return Reply()


def _is_large(path: str) -> bool:
    return path.endswith(".pb") or path.startswith("variables/")


def _oid(path: str, content: bytes) -> str:
    if _is_large(path):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(path: str, content: bytes) -> dict[str, object]:
    entry = {"type": "file", "path": path, "size": len(content), "oid": _oid(path, content)}
    if _is_large(path):
        large = {"oid": _oid(path, content), "size": len(content), "pointerSize": 130}
        return {**entry, "lfs": large}
    return entry
