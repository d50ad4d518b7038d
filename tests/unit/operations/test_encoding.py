"""How results are written as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum, StrEnum
from typing import NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from support.model_values import values

from flowhook.model import Execution, Flow, RaiseOrigin, Retry, WorkflowError
from flowhook.model.audit import AuditEntry
from flowhook.model.executions import Attempt
from flowhook.model.flows import FlowStatistics, SecretUses
from flowhook.model.jobs import JobItem
from flowhook.model.rejections import RejectedRequest, RejectionCount
from operations.encoding import rfc3339, schema_of, to_json


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
    sha256: bytes
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
        '"sha256":"01","pairs":[{"job":"job_1","size":2}],"names":{"a_id":"b"}}'
    )


def test_times_in_milliseconds_have_the_names_of_the_properties_that_return_them():
    counted = RejectionCount("shop", "SIGNATURE_MISMATCH", 2, 0, 1)
    assert to_json(counted).decode() == (
        '{"flow":"shop","reason":"SIGNATURE_MISMATCH","count":2,"first_at":"1970-01-01T00:00:00.000Z",'
        '"last_at":"1970-01-01T00:00:00.001Z"}'
    )
    entry = orjson.loads(to_json(AuditEntry(1, 0, "admin", "FlowService/PauseFlow", "shop", "", "", 1, 5)))
    assert (entry["time"], entry["last_time"]) == ("1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00.005Z")


def test_what_only_runners_and_the_router_need_is_not_written():
    error = WorkflowError("about:blank", 500, "No", raising=RaiseOrigin("/do/0", ""))
    retry = orjson.loads(to_json(Retry(error, 1, 0, keys=("/do/0#0",), follows=True)))
    assert retry.keys() == {"error", "tries", "next_at", "others"}
    assert retry["error"].keys() == {"type", "status", "title", "instance", "detail", "response"}


@pytest.mark.parametrize("kind", [Execution, Flow, JobItem, RejectedRequest, SecretUses, FlowStatistics, Attempt])
@given(data=st.data())
def test_what_is_written_is_what_the_schema_describes(kind, data):
    definitions = {}
    schema = schema_of(kind, definitions)
    written = orjson.loads(to_json(data.draw(values(kind))))
    Draft202012Validator({**schema, "components": {"schemas": definitions}}).validate(written)
