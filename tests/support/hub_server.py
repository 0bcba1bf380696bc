"""A server on loopback that answers as the model hub does for the download of one file."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """What the server has, how it misbehaves, and what it was asked.

    Attributes:
        repository: of the only file, `model.safetensors`, at `main` and at `COMMIT`.
        content: of the file.
        drop_after: bytes after which the connection of the next download is dropped.
        busy: how many of the next requests are answered with 429.
        content_sent: what is sent in the place of the content.
        endpoint: its address.
        cdn: address of the host that downloads are redirected to.
        requests: method, path and the headers of every request for a file.
    """

    def __init__(self, repository: str, content: bytes) -> None:
        self.repository, self.content = repository, content
        self.drop_after: int | None = None
        self.busy = 0
        self.content_sent: bytes | None = None
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.endpoint = self.cdn = ""

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        hub = self.hub
        if self.path.startswith("/api/"):
            # The library asks for lists of its own, too.
            self._reply(404, {}, b"")
            return
        hub.requests.append((self.command, self.path, dict(self.headers)))
        if hub.busy:
            hub.busy -= 1
            self._reply(429, {"Retry-After": "0"}, b"busy")
        elif self.path == f"/cdn/{hub.digest}":
            self._send_file()
        elif not self.path.startswith(f"/{hub.repository}/resolve/"):
            self._reply(404, {"X-Error-Code": "RepoNotFound"}, b"")
        elif self.path.split("/")[4] not in ("main", COMMIT):
            self._reply(404, {"X-Error-Code": "RevisionNotFound"}, b"")
        elif not self.path.endswith("/model.safetensors"):
            self._reply(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b"")
        else:
            headers = {
                "X-Repo-Commit": COMMIT,
                "X-Linked-Etag": f'"{hub.digest}"',
                "X-Linked-Size": str(len(hub.content)),
                "ETag": '"of-the-redirect"',
                "Location": f"{hub.cdn}/cdn/{hub.digest}",
            }
            self._reply(302, headers, b"")

    def _send_file(self) -> None:
        hub = self.hub
        content = hub.content if hub.content_sent is None else hub.content_sent
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        headers = {"ETag": f'"{hub.digest}"', "Content-Type": "application/octet-stream"}
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        body = content[first:]
        if hub.drop_after is not None and self.command == "GET":
            cut, hub.drop_after = hub.drop_after, None
            self._reply(206 if first else 200, headers, body[:cut], length=len(body))
            self.wfile.flush()
            self.close_connection = True
        else:
            self._reply(206 if first else 200, headers, body)

    def _reply(
        self, status: int, headers: dict[str, str], body: bytes, length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Runs a server for a hub, whose addresses it sets."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.endpoint = f"http://127.0.0.1:{server.server_port}"
        # Another host, as the real one's is: what follows a redirect there is another matter.
        hub.cdn = f"http://localhost:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
