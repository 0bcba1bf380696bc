"""The steps between a file of weights and a variant's tensors, the same for every format.

1. Container: the state dict itself, or one below the entries of a trainer's file.
2. Averaged weights: of both kinds one is taken, and said which.
3. Prefix: what wrappers of PyTorch's modules put before every key is removed.
4. Types: 16-bit numbers are widened to float32, without loss.

Each step that does something adds a note, a line for people.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

from ..errors import CheckpointError

WeightsKind = Literal["model", "ema"]
"""The weights as trained, or their moving average."""

_EMA = re.compile(r"ema|averag|\bswa")
# What trainers keep beside the weights, and what may have tensors of the same names.
_NOT_WEIGHTS = re.compile(r"optim|sched|scaler|criterion|loss", re.IGNORECASE)
_DEEPEST = 3
# Names that DistributedDataParallel, torch.compile, trainers and wrappers give a module within.
_WRAPPERS = ("module", "_orig_mod", "model", "ema_model", "net", "network", "backbone", "student")


@dataclasses.dataclass(frozen=True)
class StateDict:
    """A dictionary of tensors that a file has.

    Attributes:
        place: where it is in the file, such as `model_ema.module`; empty for the file itself.
        entries: what is in it.
    """

    place: str
    entries: Mapping[Any, Any]

    @property
    def kind(self) -> WeightsKind:
        """Whether its name says that the weights are averaged."""
        return "ema" if _EMA.search(self.place.lower()) else "model"


def state_dicts(
    content: object, is_tensor: Callable[[object], bool], place: str = "", depth: int = 0
) -> Iterator[StateDict]:
    """The dictionaries of tensors in what a file holds.

    Args:
        content: what the file holds, or an entry of it.
        is_tensor: tells tensors from all else.
        place: of the entry.
        depth: how many dictionaries it is in.
    """
    if not isinstance(content, Mapping):
        return
    if any(map(is_tensor, content.values())):
        yield StateDict(place, content)
    elif depth < _DEEPEST:
        for key, entry in content.items():
            if isinstance(key, str) and not _NOT_WEIGHTS.search(key):
                below = f"{place}.{key}" if place else key
                yield from state_dicts(entry, is_tensor, below, depth + 1)


def choose(
    found: list[StateDict],
    kind: WeightsKind | None,
    same: Callable[[StateDict, StateDict], bool],
    subject: str,
) -> tuple[StateDict, str, bool]:
    """The state dict to take, a note on it, and whether others hold other numbers.

    The note is empty where there was nothing to choose.

    Args:
        found: those of a file, at least one.
        kind: which kind is asked for; None for the averaged weights where there are both, as
            timm's own loader has it.
        same: whether two hold the same numbers.
        subject: the checkpoint, as the error's first words.

    Raises:
        CheckpointError: there is none of the kind, or several.
    """
    places = ", ".join(repr(state.place) for state in found)
    if kind is not None and not any(state.kind == kind for state in found):
        names = {"model": "weights as trained", "ema": "averaged weights"}
        raise CheckpointError(f"{subject}: it has no {names[kind]}; found {places}")
    kinds = {state.kind for state in found}
    taken = kind or ("ema" if "ema" in kinds else "model")
    candidates = [state for state in found if state.kind == taken]
    if len(candidates) > 1:
        raise CheckpointError(
            f"{subject}: it has several state dicts, {places}; expected a file with the one to take"
        )
    (state,) = candidates
    others = [other for other in found if other is not state]
    if not others:
        note = f"state dict {state.place!r} of a trainer's file" if state.place else ""
        return state, note, False
    if all(same(state, other) for other in others):
        return state, f"state dict {state.place!r}; {places} hold the same numbers", False
    return state, f"state dict {state.place!r} of {places}", True


def without_prefixes(keys: Iterable[str], subject: str) -> tuple[dict[str, str], str]:
    """Keys without what wrappers put before them.

    Args:
        keys: of a state dict, at least one.
        subject: the checkpoint, as the error's first words.

    Returns:
        Short key -> whole key, and a note; empty where no key has a prefix.

    Raises:
        CheckpointError: a key is there with and without a prefix.
    """
    whole = list(keys)
    prefix = ""
    while any(found := [_wrapper(key.removeprefix(prefix)) for key in whole]):
        if len(set(found)) > 1:
            break
        prefix += f"{found[0]}."
    short = {key.removeprefix(prefix): key for key in whole}
    note = f"prefix {prefix!r} removed from all keys" if prefix else ""
    if not any(found):
        return short, note
    # Wrapped in part, such as by DistributedDataParallel around the blocks alone.
    unwrapped: dict[str, str] = {}
    for key in short:
        name = _wrapper(key)
        inner = key.removeprefix(f"{name}.") if name else key
        if name and inner in short:
            raise CheckpointError(
                f"{subject}: tensor {inner!r} is there twice, with and without {name!r}; expected "
                "one of them"
            )
        unwrapped[inner] = short[key]
    names = " and ".join(sorted({repr(f"{name}.") for name in found if name}))
    return unwrapped, ", ".join(filter(None, (note, f"prefix {names} removed from some keys")))


def _wrapper(key: str) -> str | None:
    """The wrapper's name that a key begins with."""
    first, dot, _ = key.partition(".")
    return first if dot and first in _WRAPPERS else None


def widened(types: Iterable[str]) -> str:
    """A note on 16-bit types, empty where there are none.

    Args:
        types: of the tensors, `float32` and others.
    """
    narrow = sorted(set(types) - {"float32"})
    return f"{' and '.join(narrow)} widened to float32" if narrow else ""
