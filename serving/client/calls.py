"""What a client sends for a call, and what it sends again when a server refuses images together.

TF Serving answers a call as a whole: one image that cannot be decoded fails all others of the call.
A server that batches joins calls of several clients, so the image fails their calls too. The images
at fault are found by sending fewer of them again. Nothing here has a connection: a client sends
what `attempts` yields.
"""

import dataclasses
import random
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from signatures.graph_errors import is_of_graph, reason

from ..errors import Code
from .channels import ClientError
from .images import image_name

T = TypeVar("T")

TRIES = 4
"""How often a single image is sent before it counts as at fault.

Measured with eight clients that sent good images at once beside one bad image, to a server with
batches of up to eight: 63 % of the good images were refused at first, 38 % after two tries, 11 %
after three and 3 % after four.
"""

LONGEST_WAIT = 0.05
"""The longest wait, in seconds, before a single image is sent again; each next one is four times
as long."""


@dataclasses.dataclass(frozen=True)
class ByImage(Generic[T]):
    """How a call for encoded images splits into calls for some of them.

    Attributes:
        paths: path of each image; None for an image passed as bytes.
        request: makes the request for the images at some places.
        join: joins answers, each paired with its number of images, to one answer. It raises a
            ValueError if an answer has not one entry for each image.
    """

    paths: tuple[str | None, ...]
    request: Callable[[Sequence[int]], Any]
    join: Callable[[Sequence[tuple[int, T]]], T]


@dataclasses.dataclass(frozen=True)
class Call(Generic[T]):
    """A call that has not been sent.

    Attributes:
        method: name of the method.
        request: the message to send.
        read: turns the reply into the answer.
        by_image: for a call whose inputs are encoded images and nothing else.
    """

    method: str
    request: Any
    read: Callable[[Any], T]
    by_image: ByImage[T] | None = None


class FailedImagesError(ClientError):
    """Encoded images that a server refused, and the answers for the others.

    The code is INVALID_ARGUMENT. Where another error, such as DEADLINE_EXCEEDED, ended the search
    for the images at fault, the code is that error's, and so is the error of all images that were
    not sent again by then.

    Attributes:
        failures: the server's error by the image's place among those of the call, from 0.
        answers: what the call would have returned for the images at `places` alone; None if no
            image was answered.
        places: places of the images that were answered, in order.
    """

    def __init__(
        self,
        failures: Mapping[int, ClientError],
        answers: Any,
        places: Sequence[int],
        paths: Sequence[str | None],
    ) -> None:
        self.failures = dict(failures)
        self.answers = answers
        self.places = tuple(places)
        errors = self.failures.values()
        first = next(iter(errors))
        code = next((e.code for e in errors if e.code != Code.INVALID_ARGUMENT), first.code)
        lines = [
            f"{image_name(place, paths[place])}: {_described(error, code)}"
            for place, error in self.failures.items()
        ]
        super().__init__(code, "; ".join(lines), first.server, first.model)


@dataclasses.dataclass(frozen=True)
class Attempt:
    """A request to send after a wait in seconds."""

    request: Any
    wait: float = 0.0


Outcome: TypeAlias = Any
"""The reply to an `Attempt`, or the ClientError that it failed with."""

_Answers: TypeAlias = dict[tuple[int, ...], T]


def attempts(call: Call[T]) -> Generator[Attempt, Outcome, T]:
    """Yields what a client has to send for a call, takes the outcome of each, returns the answer.

    A call for encoded images that fails because of its inputs is halved until each image at fault
    is alone. Even then the cause may be another client's image in the same batch. So a single image
    is sent `TRIES` times, with waits of random length, so that clients whose calls failed together
    do not meet again.

    Raises:
        FailedImagesError: images are at fault.
        ClientError: the call failed.
    """
    first = yield Attempt(call.request)
    if not isinstance(first, ClientError):
        return call.read(first)
    if call.by_image is None or not call.by_image.paths or not blames_inputs(first):
        raise first
    images = call.by_image
    parts: _Answers[T] = {}
    failures: dict[int, ClientError] = {}
    everything = tuple(range(len(images.paths)))
    try:
        yield from _send_again(call, images, everything, first, parts, failures)
    except ClientError as other:
        if not parts and not failures:
            raise first from other
        answered = {place for places in parts for place in places}
        failures |= dict.fromkeys(sorted(set(everything) - answered - set(failures)), other)
    try:
        joined = [(len(places), part) for places, part in parts.items()]
        answers = images.join(joined) if parts else None
    except ValueError:
        raise first from None
    if failures:
        places = [place for part in parts for place in part]
        raise FailedImagesError(failures, answers, places, images.paths)
    assert answers is not None
    return answers


def blames_inputs(error: ClientError) -> bool:
    """Whether a call failed within the model, because of its inputs or of others in its batch.

    An unknown signature or label, a wrong name or dtype and too large a batch have the same code,
    but their messages name no node.
    """
    return error.code == Code.INVALID_ARGUMENT and is_of_graph(error.message)


def _send_again(
    call: Call[T],
    images: ByImage[T],
    places: tuple[int, ...],
    error: ClientError,
    parts: _Answers[T],
    failures: dict[int, ClientError],
) -> Generator[Attempt, Outcome, None]:
    """Finds answers or errors for images that failed together, or for one that failed alone.

    Args:
        call: the whole call.
        images: how it splits.
        places: of the images that failed.
        error: their error.
        parts: answers by places; is added to.
        failures: errors by place; is added to.

    Raises:
        ClientError: a request failed for another reason.
    """
    half = len(places) // 2
    requests = (places[:half], places[half:]) if half else (places,) * (TRIES - 1)
    for number, part in enumerate(requests):
        wait = 0.0 if half else random.uniform(0, LONGEST_WAIT * 4**number)
        outcome = yield Attempt(images.request(part), wait)
        if not isinstance(outcome, ClientError):
            parts[part] = call.read(outcome)
            if not half:
                return
        elif not blames_inputs(outcome):
            raise outcome
        elif half:
            yield from _send_again(call, images, part, outcome, parts, failures)
        else:
            error = outcome
    if not half:
        failures[places[0]] = error


def _described(error: ClientError, code: Code) -> str:
    text = reason(error.message)
    return text if error.code == code else f"{error.code.name}: {text}"
