"""How results are written as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum, StrEnum
from typing import NamedTuple

import orjson
import pytest

from operations.encoding import rfc3339, to_json


class Word(StrEnum):
    DONE = "done"


class Number(IntEnum):
    SEVEN = 7


class Pair(NamedTuple):
    job_id: str
    size: int


@dataclass(frozen=True, slots=True)
class Thing:
    id: str
    flow_id: str
    flow_revision: int
    with_: str
    word: Word
    number: Number
    ended_at: datetime | None
    stored: orjson.Fragment
    digest: bytes
    pairs: tuple[Pair, ...]
    names: dict[str, str]


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), "1970-01-01T00:00:00.000Z"),
        (datetime(2023, 11, 14, 22, 13, 20, 123_999, UTC), "2023-11-14T22:13:20.123Z"),
        (datetime(2023, 11, 14, 22, tzinfo=timezone(timedelta(hours=1))), "2023-11-14T21:00:00.000Z"),
    ],
)
def test_times_are_rfc_3339_in_utc(moment, text):
    assert rfc3339(moment) == text


def test_keys_words_and_stored_json_follow_the_convention():
    pairs = (Pair("job_1", 2),)
    thing = Thing(
        "x", "shop", 3, "y", Word.DONE, Number.SEVEN, None, orjson.Fragment(b"1.10"), b"\x01", pairs, {"a_id": "b"}
    )
    assert to_json(thing).decode() == (
        '{"id":"x","flow":"shop","revision":3,"with":"y","word":"done","number":7,"ended_at":null,"stored":1.10,'
        '"digest":"01","pairs":[{"job":"job_1","size":2}],"names":{"a_id":"b"}}'
    )
