"""Calls before they are made, and asking again for images that a server refused together.

TF Serving answers a call as a whole: one image that cannot be decoded fails the others beside it,
and a server that batches joins calls of several clients, so that it fails theirs too. Which image
it was is found out by asking again for fewer of them. Nothing here has a connection: a client sends
what `attempts` yields, and both clients share it.
"""

import dataclasses
import random
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from ..errors import Code
from .channels import ClientError
from .images import image_name

T = TypeVar("T")

TRIES = 4
"""How often an image is asked for by itself before it is taken to be at fault.

Of good images that eight clients sent at once beside one bad one, to a server with batches of up
to eight, 63 % were refused at first, 38 % after two tries, 11 % after three and 3 % after four.
"""

LONGEST_WAIT = 0.05
"""Seconds before an image is asked for again by itself, at most; four times that each next time."""


@dataclasses.dataclass(frozen=True)
class ByImage(Generic[T]):
    """How a call for encoded images is made of calls for some of them.

    Attributes:
        paths: of each image; None for one that was given as bytes.
        request: what is sent for the images at these places.
        join: one answer of the answers for some images each, given with their numbers of images. A
            ValueError if an answer is not by image.
    """

    paths: tuple[str | None, ...]
    request: Callable[[Sequence[int]], Any]
    join: Callable[[Sequence[tuple[int, T]]], T]


@dataclasses.dataclass(frozen=True)
class Call(Generic[T]):
    """A call that has not been made.

    Attributes:
        method: name of the method.
        request: what is sent.
        read: what the reply means.
        by_image: for a call whose inputs are encoded images and nothing else.
    """

    method: str
    request: Any
    read: Callable[[Any], T]
    by_image: ByImage[T] | None = None


class FailedImagesError(ClientError):
    """Encoded images that a server refused, and the answers for the others.

    The code is INVALID_ARGUMENT, unless finding out ended early: then it is what it ended with,
    such as DEADLINE_EXCEEDED, which is also the error of the images not asked for until then.

    Attributes:
        failures: the server's error by the image's place among those of the call, from 0.
        answers: what the call would have returned for the images at `places` alone; None where
            there are none.
        places: of the images that were answered, in their order.
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
            f"{image_name(place, paths[place])}: {_said(error, code)}"
            for place, error in self.failures.items()
        ]
        super().__init__(code, "; ".join(lines), first.server, first.model)


@dataclasses.dataclass(frozen=True)
class Attempt:
    """A request that is to be sent after so many seconds."""

    request: Any
    wait: float = 0.0


Outcome: TypeAlias = Any
"""The reply to an `Attempt`, or the ClientError that it failed with."""

_Found: TypeAlias = dict[tuple[int, ...], T]


def attempts(call: Call[T]) -> Generator[Attempt, Outcome, T]:
    """What a client has to send for a call; the outcome of each is sent in, the answer returned.

    A call for encoded images that fails because of what is in it is halved until the images at
    fault are by themselves. A good image may have been in a batch with another client's: by itself
    it is asked for `TRIES` times, with waits of random length between them, so that clients that
    failed together do not meet again.

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
    found: _Found[T] = {}
    failures: dict[int, ClientError] = {}
    everything = tuple(range(len(images.paths)))
    try:
        yield from _ask_again(call, images, everything, first, found, failures)
    except ClientError as other:
        if not found and not failures:
            # Nothing has been found out: this is what the call ended with.
            raise first from other
        answered = {place for places in found for place in places}
        failures |= dict.fromkeys(sorted(set(everything) - answered - set(failures)), other)
    try:
        answers = (
            images.join([(len(places), part) for places, part in found.items()]) if found else None
        )
    except ValueError:
        raise first from None
    if failures:
        places = [place for part in found for place in part]
        raise FailedImagesError(failures, answers, places, images.paths)
    assert answers is not None
    return answers


def blames_inputs(error: ClientError) -> bool:
    """Whether a call failed within the model, for what was in it or beside it in a batch.

    TensorFlow then names the graph's node. A wrong signature, a name or a type that does not fit,
    an unknown label or too large a batch have the same code and no node.
    """
    return error.code == Code.INVALID_ARGUMENT and "{{node " in error.message


def _ask_again(
    call: Call[T],
    images: ByImage[T],
    places: tuple[int, ...],
    error: ClientError,
    found: _Found[T],
    failures: dict[int, ClientError],
) -> Generator[Attempt, Outcome, None]:
    """Finds answers or errors for images that failed together, or one that failed by itself.

    Raises:
        ClientError: a request failed for another reason.
    """
    half = len(places) // 2
    parts = (places[:half], places[half:]) if half else (places,) * (TRIES - 1)
    for number, part in enumerate(parts):
        wait = 0.0 if half else random.uniform(0, LONGEST_WAIT * 4**number)
        outcome = yield Attempt(images.request(part), wait)
        if not isinstance(outcome, ClientError):
            found[part] = call.read(outcome)
            if not half:
                return
        elif not blames_inputs(outcome):
            raise outcome
        elif half:
            yield from _ask_again(call, images, part, outcome, found, failures)
        else:
            error = outcome
    if not half:
        failures[places[0]] = error


def _said(error: ClientError, code: Code) -> str:
    """The first line of a server's message: the others name the graph's nodes."""
    line = error.message.partition("\n")[0]
    return line if error.code == code else f"{error.code.name}: {line}"
