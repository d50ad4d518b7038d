from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from enum import Enum
from uuid import UUID

import pytest
from support.cases import cases

from flowhook.client import AsyncClient, Client
from flowhook.client.values import new_event
from flowhook.errors import InvalidError
from flowhook.model import Execution, Flow, Reply, Status
from flowhook.model.flows import SecretInfo


def event(flow="hello", body=b"", **arguments):
    defaults = {"content_type": "application/json", "headers": (), "dedupe_key": "", "event_id": None}
    return new_event(flow, body, **(defaults | arguments))


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True, slots=True)
class Order:
    number: int
    parts: list[Order] | None = None


@cases(
    ("body", "sent"),
    [
        (b"\xff", b"\xff"),
        (bytearray(b"ab"), b"ab"),
        ("é", "é".encode()),
        ({"name": "Ada", "n": [1, 2.5, None, True, "é"]}, '{"name":"Ada","n":[1,2.5,null,true,"é"]}'.encode()),
        ([], b"[]"),
        ({"at": datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=UTC)}, b'{"at":"2026-01-02T03:04:05.000600+00:00"}'),
        (
            [date(2026, 1, 2), time(3, 4), UUID(int=7)],
            b'["2026-01-02","03:04:00","00000000-0000-0000-0000-000000000007"]',
        ),
        ([Colour.RED, Status.FAULTED], b'["red","faulted"]'),
        (Order(7, [Order(8)]), b'{"number":7,"parts":[{"number":8,"parts":null}]}'),
    ],
)
def test_bodies_are_bytes_text_or_json(body, sent):
    assert event(body=body).body == sent


CIRCULAR = []
CIRCULAR.append(CIRCULAR)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_json_has_not_is_named(value):
    named = f": {value}" if sys.version_info >= (3, 12) else ""  # Python 3.11 says only that there is such a number
    with pytest.raises(InvalidError, match=f"not JSON compliant{named}$"):
        event(body={"a": value})


NAIVE = datetime(2026, 1, 2, tzinfo=UTC).replace(tzinfo=None)


@cases(
    "body",
    [
        {"a": object()},
        [NAIVE],
        {"a": Order},
        {"a": math.nan},
        {"a": {1, 2}},
        CIRCULAR,
        "\ud800",
        {"a": "\ud800"},
    ],
)
def test_what_json_can_not_hold_is_refused(body):
    with pytest.raises(InvalidError, match="the body can't be encoded as JSON") as refusal:
        event(body=body)
    assert refusal.value.reason == "BODY_INVALID"


@pytest.mark.parametrize("headers", [{"X-A": "1", "x-b": b"2"}, [("X-A", "1"), ("x-b", b"2")]])
def test_headers_are_a_mapping_or_pairs(headers):
    assert event(headers=headers).headers == (("x-a", b"1"), ("x-b", b"2"))


@cases(
    ("arguments", "named"),
    [
        ({"flow": None}, "`flow`"),
        ({"flow": 7}, "`flow`"),
        ({"content_type": None}, "`content_type`"),
        ({"dedupe_key": 7}, "`dedupe_key`"),
        ({"event_id": b"evt_"}, "`event_id`"),
        ({"headers": ["X-A: 1"]}, "`headers`"),
        ({"headers": [("X-A", 1)]}, "`headers`"),
        ({"headers": {"X-A": None}}, "`headers`"),
    ],
)
def test_an_argument_that_is_something_else_is_named(arguments, named):
    with pytest.raises(InvalidError, match=named) as refusal:
        event(**arguments)
    assert refusal.value.reason == "ARGUMENT_INVALID"


@cases("seconds", [0, 0.0, -1, math.nan, None, "5"])
@cases("kind", [AsyncClient, Client])
def test_a_timeout_that_is_not_above_0_is_refused(kind, seconds):
    with pytest.raises(InvalidError, match=f"a number of seconds above 0, not {seconds!r}") as refusal:
        kind("127.0.0.1:1", token="t", timeout=seconds)
    assert refusal.value.reason == "ARGUMENT_INVALID"


@pytest.mark.parametrize("seconds", [0, -0.5])
async def test_an_invocation_that_may_take_no_time_is_refused(seconds):
    async with AsyncClient("127.0.0.1:1", token="t") as client:
        with pytest.raises(InvalidError, match="`timeout`"):
            await client.invoke("hello", {}, timeout=seconds)
    with Client("127.0.0.1:1", token="t") as blocking, pytest.raises(InvalidError, match="`timeout`"):
        blocking.invoke("hello", {}, timeout=seconds)


def test_a_reply_says_what_its_json_says():
    assert Reply(200, (), b'{"a": 1}').json() == {"a": 1}
    with pytest.raises(ValueError, match="Expecting value"):
        Reply(200, (), b"nothing").json()


def test_times_are_there_as_datetimes():
    execution = Execution("evt_1", "hello", 1, Status.RUNNING, 1, 1_790_000_000_123)
    assert execution.received_at == datetime(2026, 9, 21, 14, 13, 20, 123_000, UTC)
    assert execution.ended_at is None
    assert Execution("e", "h", 1, Status.COMPLETED, 1, 0, 1).ended_at == datetime(1970, 1, 1, 0, 0, 0, 1000, UTC)
    flow = Flow("hello", b"", b"", 1, False, True, 1000, 2000, 3000)
    assert [each.second for each in (flow.created_at, flow.updated_at, flow.next_at)] == [1, 2, 3]
    assert Flow("hello", b"", b"", 1, False, True, 1000, 2000).next_at is None
    assert SecretInfo("key", 5000).updated_at.second == 5
    assert event().received_at.tzinfo is UTC
