"""Searches with real processes over a list of events."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import orjson
import pytest
import pytest_asyncio
from support.patience import PATIENCE

from flowhook.client import Page, ScannedExecution
from flowhook.errors import InvalidError
from flowhook.model import Execution, Status
from flowhook.model.execution_filter import ALL
from flowhook.v1.envelope_pb2 import Event
from operations import search as module
from operations.search import ConditionEvaluator, Evaluation, search

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = 60.0
"""Seconds that no test takes."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def evaluator():
    async with aclosing(ConditionEvaluator(seconds=1)) as evaluator:
        yield evaluator


def scanned(number, body):
    event = None
    if body is not None:
        message = Event(id=f"evt_{number}", flow_id="f", content_type="application/json", body=orjson.dumps(body))
        event = message.SerializeToString()
    execution = Execution(f"evt_{number}", "f", 1, Status.PENDING, 0, 0)
    return ScannedExecution(execution, event, has_webhook=True, raw=False, next_page_token=str(number + 1))


class Events:
    """Events of these bodies, the newest first; None: a large one."""

    def __init__(self, *bodies):
        self._all = [scanned(number, body) for number, body in enumerate(bodies)]
        self.asked = []

    async def scan(self, where, *, page_size=50, page_token=""):
        self.asked.append(page_size)
        start = int(page_token or 0)
        page = self._all[start : start + page_size]
        more = start + page_size < len(self._all)
        return Page(page, page[-1].next_page_token if more else "")


def ids(result):
    return [int(each.id.removeprefix("evt_")) for each in result.found]


async def test_all_events_are_looked_at_in_batches_that_grow(evaluator):
    events = Events(*({"n": number} for number in range(700)))
    result = await search(events, evaluator, ALL, ".body.n % 300 == 299", limit=9, seconds=LONG)
    assert (ids(result), result.scanned, result.next_page_token) == ([299, 599], 700, "")
    assert (result.last.id, result.left_out, result.failures) == ("evt_699", 0, 0)
    assert events.asked == sorted(events.asked)


async def test_a_search_ends_with_what_was_wanted_and_continues_behind_it(evaluator):
    events = Events(*({"n": number} for number in range(120)))
    found, token = [], ""
    while True:
        result = await search(events, evaluator, ALL, ".body.n % 10 == 0", limit=5, page_token=token, seconds=LONG)
        found += ids(result)
        token = result.next_page_token
        if not token:
            break
        assert result.last.id == result.found[-1].id
    assert found == list(range(0, 120, 10))


async def test_a_search_whose_time_is_over_says_how_far_it_went(evaluator):
    events = Events(*({"n": number} for number in range(120)))
    result = await search(events, evaluator, ALL, "false", limit=5, seconds=0)
    assert (result.found, result.scanned, result.next_page_token) == ([], 50, "50")


async def test_large_events_and_failures_are_counted(evaluator):
    result = await search(Events({"n": 1}, None, {"n": "x"}), evaluator, ALL, ".body.n / 1 == 1", limit=5, seconds=LONG)
    assert (ids(result), result.scanned, result.left_out, result.failures) == ([0], 3, 1, 1)
    assert "cannot be divided" in result.failure
    assert (await search(Events(), evaluator, ALL, ".body", limit=5)).last is None
    assert (await search(Events(None), evaluator, ALL, ".body", limit=5)).left_out == 1


@pytest.mark.parametrize("program", ["def f: f; f", "reduce range(1e9) as $i ([]; . + [$i])", "last(range(1e12))"])
async def test_a_condition_that_does_not_end_is_ended_with_its_process_and_others_go_on(evaluator, program):
    with pytest.raises(InvalidError, match="can't be evaluated for 1 events: it takes more than") as refusal:
        await search(Events({}), evaluator, ALL, program, limit=5)
    assert refusal.value.reason == "CONDITION_TOO_COSTLY"
    assert ids(await search(Events({"n": 1}), evaluator, ALL, ".body.n == 1", limit=5)) == [0]


@pytest.mark.parametrize("program", ["nope", "x" * 10_000, '"\udcff"'])
async def test_a_condition_that_is_none_is_refused_although_there_is_nothing_to_look_at(evaluator, program):
    with pytest.raises(InvalidError) as refusal:
        await search(Events(), evaluator, ALL, program, limit=5)
    assert refusal.value.reason == "CONDITION_INVALID"


class FollowedEvaluator:
    """Finds the first executions; it is done when the next page of events is being read."""

    def __init__(self, events):
        self._events = events

    async def evaluate(self, program, executions):
        if executions:
            await self._events.next_read.wait()
            if program == "refused":
                raise InvalidError("it takes too long")
        return Evaluation(executions[:1], 0, "")


class ObservedEvents(Events):
    """Events whose second page is never there."""

    def __init__(self, *bodies):
        super().__init__(*bodies)
        self.next_read, self.cancelled = asyncio.Event(), False

    async def scan(self, where, *, page_size=50, page_token=""):
        if not page_token:
            return await super().scan(where, page_size=page_size)
        self.next_read.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def test_the_next_page_is_read_during_an_evaluation_and_no_more_when_enough_is_found():
    events = ObservedEvents(*range(120))
    async with asyncio.timeout(PATIENCE):
        result = await search(events, FollowedEvaluator(events), ALL, ".", limit=1, seconds=LONG)
    assert (ids(result), events.cancelled) == ([0], True)


async def test_the_next_page_is_not_read_any_more_when_a_condition_is_refused():
    events = ObservedEvents(*range(120))
    with pytest.raises(InvalidError):
        await search(events, FollowedEvaluator(events), ALL, "refused", limit=1, seconds=LONG)
    assert events.cancelled


class ColdEvaluator:
    """Its first call takes an hour of a clock, and further ones none."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    async def evaluate(self, program, executions):
        self.now = 3600.0
        return Evaluation([], 0, "")


async def test_the_start_of_a_process_takes_no_time_of_a_search(monkeypatch):
    evaluator = ColdEvaluator()
    monkeypatch.setattr(module, "time", evaluator)
    result = await search(Events(*range(120)), evaluator, ALL, "false", limit=5, seconds=1)
    assert (result.scanned, result.next_page_token) == (120, "")
