"""One document, run with no cluster."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace

import orjson
import pytest

from flowhook.model import Event
from flowhook.process.settings import RunnerSettings
from flowhook.wire import convert
from runner import ipc
from runner.components.testing import receiver
from runner.ipc import RunEnded
from runner.local_run import run_document


@pytest.fixture
def settings():
    return RunnerSettings(expression_seconds=0.4, expression_bytes=64 * 1024 * 1024)


def document(*do, **more):
    head = {"document": {"namespace": "default", "name": "alone"}, "webhook": {"auth": "none"}}
    return SimpleNamespace(definition={**head, "do": list(do), **more})


def event(body=None):
    return Event(
        "evt_1", "f", 1_700_000_000_000, None, "", "POST", "/hook/f", "", "application/json", (), orjson.dumps(body)
    )


async def run(flow, event, settings, secrets, report=None, **options):
    definition, start = orjson.dumps(flow.definition), convert.event_to_bytes(event)
    order = ipc.RunDocument(settings, definition, start, secrets, **options)
    return await run_document(order, *filter(None, (report,)))


async def test_a_document_completes_with_its_output(settings):
    flow = document({"greet": {"set": {"hello": "${ .body.name }"}}})
    assert await run(flow, event({"name": "world"}), settings, {}) == RunEnded(b'{"hello":"world"}', None)


async def test_an_error_of_an_expression_names_its_task(settings):
    flow = document({"add": {"set": "${ .body + 1 }"}})
    problem = (await run(flow, event("text"), settings, {})).error
    assert (problem.type.rpartition("/")[2], problem.status, problem.instance) == ("expression", 400, "/do/0/add")


async def test_an_endless_expression_faults_at_the_limit(settings):
    flow = document({"loop": {"set": {"x": "${ def f: f; f }"}}})
    problem = (await run(flow, event(), settings, {})).error
    assert (problem.type.rpartition("/")[2], problem.instance) == ("expression", "/do/0/loop")
    assert "0.4 s" in problem.detail


async def test_secrets_are_there_by_name_and_a_missing_one_is_an_authorization_error(settings):
    flow = document({"use": {"set": {"user": "${ $secrets.bank.user }"}}}, use={"secrets": ["bank"]})
    assert await run(flow, event(), settings, {"bank": b'{"user":"u"}'}) == RunEnded(b'{"user":"u"}', None)
    problem = (await run(flow, event(), settings, {})).error
    assert (problem.type.rpartition("/")[2], problem.status, problem.instance) == ("authorization", 403, "/use/secrets")
    assert "bank" in problem.detail


async def test_waiting_for_events_is_a_configuration_error_that_names_the_task(settings):
    flow = document({"wait": {"listen": {"to": {"one": {"with": {"type": "paid"}}}}}})
    problem = (await run(flow, event(), settings, {})).error
    assert (problem.type.rpartition("/")[2], problem.instance) == ("configuration", "/do/0/wait")
    assert "events of type paid" in problem.detail
    assert "--event @FILE" in problem.detail


PAID, HEAT = (
    ipc.ProvidedEvent(
        orjson.dumps({"specversion": "1.0", "id": kind, "source": "/", "type": kind, "data": kind}), callback=False
    )
    for kind in ("paid", "heat")
)
LISTEN = {"listen": {"to": {"one": {"with": {"type": "paid"}}}}}


async def test_events_that_are_there_come_each_once_to_the_first_that_waits_for_such(settings):
    flow = document({"a": LISTEN}, {"b": {"listen": {"to": {"any": []}}}}, {"c": LISTEN})
    problem = (await run(flow, event(), settings, {}, events=[HEAT, PAID])).error
    assert problem.instance == "/do/2/c"
    both = document(
        {"a": {**LISTEN, "export": {"as": "."}}},
        {"b": {"listen": {"to": {"any": []}}}},
        {"c": {"set": "${ $context + . }"}},
    )
    assert await run(both, event(), settings, {}, events=[HEAT, PAID]) == RunEnded(b'["paid","heat"]', None)


async def test_an_event_that_was_emitted_is_no_callback_and_a_callback_no_emitted_event(settings):
    callbacks = {"webhook": {"auth": "none", "callbacks": {"paid": {"auth": "none"}}}}
    for flow, given in (
        (document({"a": LISTEN}, **callbacks), PAID),
        (document({"a": LISTEN}), replace(PAID, callback=True)),
    ):
        problem = (await run(flow, event(), settings, {}, events=[given])).error
        assert problem.instance == "/do/0/a"
        other = replace(given, callback=not given.callback)
        assert await run(flow, event(), settings, {}, events=[other]) == RunEnded(b'["paid"]', None)


async def test_waits_retries_and_timeouts_can_be_skipped_and_are_reported(settings):
    refuse = {"raise": {"error": {"type": "https://example.com/e", "status": 503}}}
    retry = {"delay": {"minutes": 5}, "limit": {"attempt": {"count": 1}}}
    late = {
        "try": [{"listen": {**LISTEN, "timeout": {"after": {"days": 3}}}}],
        "catch": {"do": [{"no": {"set": {"x": 1}}}]},
    }
    flow = document(
        {"pause": {"wait": {"hours": 1}}},
        {"again": {"try": [{"stop": refuse}], "catch": {"retry": retry, "do": [{"go": {"set": {}}}]}}},
        {"late": late},
    )
    reported = []
    result = await run(flow, event(), settings, {}, reported.append, skip_waits=True)
    assert result == RunEnded(b'{"x":1}', None)
    assert [(each.reason, each.task, round(each.seconds), list(each.types)) for each in reported] == [
        ("wait", "/do/0/pause", 3600, []),
        ("retry", "/do/1/again", 300, []),
        ("listen", "/do/2/late/try/0/listen", 3 * 86_400, ["paid"]),
    ]
    assert all(each.skipped for each in reported)


async def test_time_that_was_skipped_has_passed_for_the_flow(settings):
    flow = document({"pause": {"wait": {"hours": 1}}}, {"look": {"set": {"now": "${ now }"}}})
    result = await run(flow, event(), settings, {}, skip_waits=True)
    assert orjson.loads(result.output)["now"] > time.time() + 3000


async def test_one_time_urls_have_something_that_stands_for_them(settings):
    callbacks = {"webhook": {"auth": "none", "callbacks": {"paid": {"auth": "none"}}}}
    flow = document({"tell": {"set": {"url": "${ $runtime.metadata.callbacks.paid }"}}}, **callbacks)
    assert await run(flow, event(), settings, {}) == RunEnded(b'{"url":"/hook/f/paid/exec-1"}', None)


async def test_running_another_flow_is_a_configuration_error_that_can_be_caught(settings):
    child = {"child": {"run": {"workflow": {"namespace": "default", "name": "child", "version": "latest"}}}}
    problem = (await run(document(child), event(), settings, {})).error
    assert (problem.type.rpartition("/")[2], problem.instance) == ("configuration", "/do/0/child")
    assert "flowhook up" in problem.detail
    caught = document({"try": {"try": [child], "catch": {"do": [{"put": {"set": {"alone": True}}}]}}})
    assert await run(caught, event(), settings, {}) == RunEnded(b'{"alone":true}', None)


async def test_an_event_is_the_output_of_its_task_and_goes_to_its_sink_if_there_is_one(settings):
    emit = {"tell": {"emit": {"event": {"with": {"type": "paid", "source": "/x", "data": {"n": 1}}}}}}
    result = await run(document(emit), event(), settings, {})
    assert (orjson.loads(result.output)["type"], orjson.loads(result.output)["data"]) == ("paid", {"n": 1})
    async with receiver() as sink:
        emit["tell"]["metadata"] = {"sink": sink.url}
        settings = settings.model_copy(update={"allow_private_addresses": True})
        result = await run(document(emit), event(), settings, {})
        assert [each.json() for each in sink.received] == [orjson.loads(result.output)]
