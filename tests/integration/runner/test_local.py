"""One document, run with no cluster."""

from __future__ import annotations

from types import SimpleNamespace

import orjson
import pytest

from flowhook.config import RunnerSettings
from flowhook.model import Event
from runner.components.testing import receiver
from runner.local import Completed, run_document


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


async def test_a_document_completes_with_its_output(settings):
    flow = document({"greet": {"set": {"hello": "${ .body.name }"}}})
    assert await run_document(flow, event({"name": "world"}), settings, {}) == Completed(b'{"hello":"world"}')


async def test_an_error_of_an_expression_names_its_task(settings):
    flow = document({"add": {"set": "${ .body + 1 }"}})
    problem = await run_document(flow, event("text"), settings, {})
    assert (problem.type.rpartition("/")[2], problem.status, problem.instance) == ("expression", 400, "/do/0/add")


async def test_an_endless_expression_faults_at_the_limit(settings):
    flow = document({"loop": {"set": {"x": "${ def f: f; f }"}}})
    problem = await run_document(flow, event(), settings, {})
    assert (problem.type.rpartition("/")[2], problem.instance) == ("expression", "/do/0/loop")
    assert "0.4 s" in problem.detail


async def test_secrets_are_there_by_name_and_a_missing_one_is_an_authorization_error(settings):
    flow = document({"use": {"set": {"user": "${ $secrets.bank.user }"}}}, use={"secrets": ["bank"]})
    assert await run_document(flow, event(), settings, {"bank": b'{"user":"u"}'}) == Completed(b'{"user":"u"}')
    problem = await run_document(flow, event(), settings, {})
    assert (problem.type.rpartition("/")[2], problem.status, problem.instance) == ("authorization", 403, "/use/secrets")
    assert "bank" in problem.detail


async def test_waiting_for_events_is_a_configuration_error_that_names_the_task(settings):
    flow = document({"wait": {"listen": {"to": {"any": []}}, "timeout": {"after": {"hours": 1}}}})
    problem = await run_document(flow, event(), settings, {})
    assert (problem.type.rpartition("/")[2], problem.instance) == ("configuration", "/do/0/wait")
    assert "flowhook up" in problem.detail


async def test_running_another_flow_is_a_configuration_error_that_can_be_caught(settings):
    run = {"child": {"run": {"workflow": {"namespace": "default", "name": "child", "version": "latest"}}}}
    problem = await run_document(document(run), event(), settings, {})
    assert (problem.type.rpartition("/")[2], problem.instance) == ("configuration", "/do/0/child")
    assert "flowhook up" in problem.detail
    caught = document({"try": {"try": [run], "catch": {"do": [{"put": {"set": {"alone": True}}}]}}})
    assert await run_document(caught, event(), settings, {}) == Completed(b'{"alone":true}')


async def test_an_event_is_the_output_of_its_task_and_goes_to_its_sink_if_there_is_one(settings):
    emit = {"tell": {"emit": {"event": {"with": {"type": "paid", "source": "/x", "data": {"n": 1}}}}}}
    result = await run_document(document(emit), event(), settings, {})
    assert (orjson.loads(result.output)["type"], orjson.loads(result.output)["data"]) == ("paid", {"n": 1})
    async with receiver() as sink:
        emit["tell"]["metadata"] = {"sink": sink.url}
        settings = settings.model_copy(update={"allow_private_addresses": True})
        result = await run_document(document(emit), event(), settings, {})
        assert [each.json() for each in sink.received] == [orjson.loads(result.output)]
