"""What is asked for again when a server refuses images together, without a server."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from serving import Code
from serving.client.calls import (
    LONGEST_WAIT,
    TRIES,
    Attempt,
    ByImage,
    Call,
    FailedImagesError,
    attempts,
    blames_inputs,
)
from serving.client.channels import ClientError

NODE = "\n\t [[{{function_node body}}{{node map/while/Assert}}]]"
PATHS = (None, "b.jpg", None, "d.jpg", None, None, None, None)


def error(code: Code = Code.INVALID_ARGUMENT, message: str = f"no image{NODE}") -> ClientError:
    return ClientError(code, message, "here:1", "m")


def join(parts: Sequence[tuple[int, list[int]]]) -> list[int]:
    if any(len(part) != count for count, part in parts):
        raise ValueError("not by image")
    return [number for _, part in parts for number in part]


def call(count: int, read: Callable[[Any], Any] = list) -> Call[list[int]]:
    """A call for the images 0 to `count`, whose requests and answers are their places."""
    by_image = ByImage(PATHS[:count], tuple, join)
    return Call("Any", tuple(range(count)), read, by_image)


class Server:
    """Answers with the places that it was asked for, or as `outcome` says.

    Attributes:
        asked: every attempt.
    """

    def __init__(self, outcome: Callable[[tuple[int, ...], int], ClientError | None]) -> None:
        self._outcome = outcome
        self.asked: list[Attempt] = []

    def run(self, call: Call[Any]) -> Any:
        steps = attempts(call)
        attempt = next(steps)
        while True:
            self.asked.append(attempt)
            failed = self._outcome(attempt.request, self.requests.count(attempt.request))
            try:
                attempt = steps.send(attempt.request if failed is None else failed)
            except StopIteration as done:
                return done.value

    @property
    def requests(self) -> list[tuple[int, ...]]:
        return [attempt.request for attempt in self.asked]


def bad(*places: int) -> Server:
    return Server(lambda request, _: error() if set(places) & set(request) else None)


def test_what_is_answered_is_asked_for_once() -> None:
    server = bad()
    assert server.run(call(3)) == [0, 1, 2]
    assert server.asked == [Attempt((0, 1, 2))]


def test_one_at_fault_is_found_by_halves() -> None:
    server = bad(3)
    with pytest.raises(FailedImagesError) as caught:
        server.run(call(8))
    assert caught.value.places == (0, 1, 2, 4, 5, 6, 7)
    assert caught.value.answers == [0, 1, 2, 4, 5, 6, 7]
    assert list(caught.value.failures) == [3]
    assert caught.value.failures[3].message == f"no image{NODE}"
    assert str(caught.value) == "here:1, model m: INVALID_ARGUMENT: images[3] (d.jpg): no image"
    everything, *halves = server.requests
    assert everything == tuple(range(8))
    found = [(0, 1, 2, 3), (0, 1), (2, 3), (2,), *[(3,)] * TRIES, (4, 5, 6, 7)]
    assert halves == found


def test_several_at_fault_are_all_named() -> None:
    with pytest.raises(FailedImagesError) as caught:
        bad(0, 1, 4).run(call(5))
    assert caught.value.answers == [2, 3]
    assert caught.value.message == (
        "images[0]: no image; images[1] (b.jpg): no image; images[4]: no image"
    )


def test_none_is_left() -> None:
    with pytest.raises(FailedImagesError) as caught:
        bad(0, 1).run(call(2))
    assert (caught.value.answers, caught.value.places) == (None, ())
    assert sorted(caught.value.failures) == [0, 1]


@pytest.mark.parametrize("failures", range(TRIES))
def test_one_that_was_refused_for_others_is_answered_in_the_end(failures: int) -> None:
    server = Server(lambda _, times: error() if times <= failures else None)
    assert server.run(call(1)) == [0]
    assert len(server.asked) == failures + 1
    # Waits of random length, before every try by itself but the first.
    assert server.asked[0].wait == 0
    for number, attempt in enumerate(server.asked[1:]):
        assert 0 < attempt.wait <= LONGEST_WAIT * 4**number


def test_several_that_were_refused_for_others_are_answered() -> None:
    server = Server(lambda request, times: error() if len(request) == 4 else None)
    assert server.run(call(4)) == [0, 1, 2, 3]
    assert server.requests == [(0, 1, 2, 3), (0, 1), (2, 3)]


def test_tries_of_one_by_itself_are_bounded() -> None:
    server = bad(0)
    with pytest.raises(FailedImagesError):
        server.run(call(1))
    assert server.requests == [(0,)] * TRIES


@pytest.mark.parametrize(
    "refused",
    [
        error(message="Unrecognized servable version label: x"),
        error(message="Task size 9 is larger than maximum input batch size 8"),
        error(message="No signature was found with the name: classify"),
        error(Code.NOT_FOUND, "Servable not found for request: Latest(m)"),
        error(Code.INTERNAL, f"broken{NODE}"),
        error(Code.DEADLINE_EXCEEDED, "Deadline Exceeded"),
    ],
    ids=str,
)
def test_what_is_no_images_fault_is_not_asked_for_again(refused: ClientError) -> None:
    assert not blames_inputs(refused)
    server = Server(lambda *_: refused)
    with pytest.raises(ClientError) as caught:
        server.run(call(4))
    assert caught.value is refused
    assert len(server.asked) == 1


def test_a_call_that_is_not_by_image_is_not_asked_for_again() -> None:
    refused = error()
    for made in (Call("Any", (0, 1), list), call(0)):
        server = Server(lambda *_: refused)
        with pytest.raises(ClientError) as caught:
            server.run(made)
        assert caught.value is refused
        assert len(server.asked) == 1


def test_what_ends_the_search_loses_no_answer() -> None:
    late = error(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def outcome(request: tuple[int, ...], _: int) -> ClientError | None:
        if request == (4, 5, 6, 7):
            return late
        return error() if 1 in request else None

    with pytest.raises(FailedImagesError) as caught:
        Server(outcome).run(call(8))
    assert caught.value.code == Code.DEADLINE_EXCEEDED
    assert caught.value.answers == [0, 2, 3]
    assert sorted(caught.value.failures) == [1, 4, 5, 6, 7]
    assert caught.value.failures[4] is late
    assert "images[1] (b.jpg): INVALID_ARGUMENT: no image; images[4]: Dead" in str(caught.value)


@pytest.mark.parametrize("count", [1, 4])
def test_a_search_that_ends_at_once_leaves_the_first_error(count: int) -> None:
    refused, away = error(), error(Code.UNAVAILABLE, "away")
    server = Server(lambda request, times: refused if len(server.asked) == 1 else away)
    with pytest.raises(ClientError) as caught:
        server.run(call(count))
    assert caught.value is refused
    assert caught.value.__cause__ is away
    assert len(server.asked) == 2


def test_answers_that_are_not_by_image_are_not_joined() -> None:
    server = bad(1)
    with pytest.raises(ClientError) as caught:
        server.run(call(4, read=lambda _: [1, 2, 3, 4, 5]))
    assert not isinstance(caught.value, FailedImagesError)
