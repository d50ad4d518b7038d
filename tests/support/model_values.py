"""Values of model types, made from the types of their fields."""

from __future__ import annotations

import types
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, Final, Union, get_args, get_origin

from hypothesis import strategies as st

from flowhook.model import Blob, Event, Origin, Part, Retry
from flowhook.model.replays import ReplayOptions
from flowhook.model.types import field_types

TEXT: Final = st.text(max_size=12)
COUNTS: Final = st.integers(0, 2**31 - 1)
TIMES: Final = st.integers(0, 2**40)
BYTES: Final = st.binary(max_size=12)
RARE: Final = frozenset({"batch", "callback_token", "parent", "body_blob", "parts", "form"})
"""Fields of an event that go together with others."""
SCALARS: Final[Mapping[type, st.SearchStrategy[Any]]] = {
    str: TEXT,
    bytes: BYTES,
    bool: st.booleans(),
    int: COUNTS,
    float: st.integers(0, 10**6).map(lambda quarters: quarters / 4),
}


@cache
def values(kind: Any) -> st.SearchStrategy[Any]:
    """Return values of a model type, or of the type of a field."""
    if kind in BY_HAND:
        return BY_HAND[kind]()
    if kind in SCALARS:
        return SCALARS[kind]
    if get_origin(kind) in {Union, types.UnionType}:
        (given,) = (each for each in get_args(kind) if each is not type(None))
        # in a field without presence, None is what is empty
        return st.none() | values(given).filter(lambda value: value is False or value)
    if get_origin(kind) is tuple:
        return _tuples(get_args(kind))
    if get_origin(kind) is not None and issubclass(get_origin(kind), Mapping):
        return st.dictionaries(TEXT, TEXT, max_size=2)
    if issubclass(kind, Enum):
        return st.sampled_from(kind)
    return _built(kind)


def _built(kind: Any, *, without: frozenset[str] = frozenset()) -> st.SearchStrategy[Any]:
    """Return values of a model type, in which some fields have their defaults."""
    fields = {name: _field(name, hint) for name, hint in field_types(kind).items() if name not in without}
    return st.fixed_dictionaries(fields).map(lambda given: kind(**given))


def _tuples(parts: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    if parts[-1] is Ellipsis:
        return st.lists(values(parts[0]), max_size=2).map(tuple)
    return st.tuples(*map(values, parts))


def _field(name: str, hint: Any) -> st.SearchStrategy[Any]:
    if name.endswith("_ms"):
        return TIMES if hint is int else st.none() | TIMES
    return values(hint)


def _events() -> st.SearchStrategy[Event]:
    blobs = st.tuples(values(Blob), values(tuple[Part, ...]), BYTES)
    return st.builds(_with_rare, _built(Event, without=RARE), TEXT, blobs)


def _with_rare(event: Event, text: str, body: tuple[Blob, tuple[Part, ...], bytes]) -> Event:
    if event.callback:
        event = event._replace(callback_token=text)
    if event.depth:
        event = event._replace(parent=text)
    if event.origin is not Origin.REQUEST:
        return event
    blob, parts, form = body
    return event._replace(body=b"", body_blob=blob, parts=parts, form=form)


def _options() -> st.SearchStrategy[ReplayOptions]:
    given = st.none() | BYTES
    return st.one_of(
        st.fixed_dictionaries({"latest": st.booleans(), "from_failed": st.booleans()}),
        st.fixed_dictionaries({"latest": st.booleans(), "from_task": st.text(min_size=1), "output": given}),
        st.fixed_dictionaries({"auto": st.booleans(), "body": BYTES, "content_type": st.none() | TEXT}),
    ).map(lambda options: ReplayOptions(**options))


def _retries() -> st.SearchStrategy[Retry]:
    return _built(Retry, without=frozenset({"keys", "follows"}))


BY_HAND: Final = {Event: _events, ReplayOptions: _options, Retry: _retries}
"""Types whose fields depend on one another, or are not all sent."""
