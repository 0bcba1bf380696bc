"""Who may replace a server's config by HandleReloadConfigRequest, and how many calls at a time."""

import contextlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import Code, ServingError

# Where gRPC has the names of a verified certificate.
_NAMES = ("x509_common_name", "x509_subject_alternative_name")


class ReloadAccess:
    """Lets some calls in. Threads may share it.

    Such a call waits until the new models of a config are available, for ever if it has no
    deadline. So that these calls do not take every thread, only so many may wait.

    Args:
        allowed: False lets no call in.
        verified: whether every client has shown a certificate; then only `clients` are let in.
        clients: names of certificates.
        most: number of calls at a time.
    """

    def __init__(
        self,
        allowed: bool = True,
        verified: bool = False,
        clients: Iterable[str] = (),
        most: int = 1,
    ) -> None:
        self._allowed = allowed
        self._verified = verified
        self._clients = frozenset(clients)
        self._free = threading.BoundedSemaphore(most)

    @contextlib.contextmanager
    def entered(self, context: Any) -> Iterator[None]:
        """Lets a call in for the time of the block.

        Args:
            context: the call's, from gRPC.

        Raises:
            ServingError: PERMISSION_DENIED, or UNAVAILABLE while too many calls wait.
        """
        self._check(context)
        if not self._free.acquire(blocking=False):
            raise ServingError(Code.UNAVAILABLE, "Other configs are being loaded; try again later")
        try:
            yield
        finally:
            self._free.release()

    def _check(self, context: Any) -> None:
        if not self._allowed:
            raise _denied("--allow_reload=false")
        if not self._verified:
            return
        if not self._clients:
            raise _denied("this server verifies certificates, and --reload_clients names none")
        found = _certificate_names(context)
        if not self._clients.intersection(found):
            raise _denied(f"--reload_clients does not name this certificate ({', '.join(found)})")


def _denied(reason: str) -> ServingError:
    return ServingError(Code.PERMISSION_DENIED, f"No config may be loaded by a call: {reason}")


def _certificate_names(context: Any) -> list[str]:
    """The common name and the alternative names of a client's certificate."""
    known = context.auth_context()
    names = {name for key in _NAMES for name in known.get(key, ()) if name}
    return sorted(name.decode("utf-8", "replace") for name in names)
