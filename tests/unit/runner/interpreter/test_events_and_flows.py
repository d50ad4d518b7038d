"""What `emit` publishes, and how a `run` task runs other flows and processes."""

from __future__ import annotations

import orjson
import pytest

from flowhook.model import JournalEntry, Subscription, WorkflowError
from runner.interpreter.effects import EffectResult
from runner.interpreter.errors import Kind, error
from runner.interpreter.execution_context import OneTimeUrls


def kind(outcome):
    return outcome.error.type.rpartition("/")[2], outcome.error.instance


def emit(task=None, **properties):
    return [{"tell": {"emit": {"event": {"with": {"type": "paid", **properties}}}, **(task or {})}}]


def test_an_event_has_what_cloudevents_requests_and_is_the_output(execute):
    world = execute.World({"emit": {"receivers": 2}})
    outcome = execute(emit(data={"order": "${ .order }"}), {"order": 5}, world=world)
    event = {
        "specversion": "1.0",
        "id": "evt_1:/do/0/tell#0",
        "source": "/flows/test",
        "type": "paid",
        "time": "2023-11-14T22:13:21.000Z",
        "data": {"order": 5},
    }
    assert outcome.output == event
    (effect,) = world.performed
    assert effect.arguments == {"event": event, "execution": "evt_1", "depth": 0, "sink": None}
    assert [entry.key for entry in outcome.journal] == ["/do/0/tell#0:time", "/do/0/tell#0"]
    assert outcome.journal[1].output == b'{"receivers":2}'


def test_an_event_that_is_emitted_again_after_a_crash_is_the_same(execute):
    world = execute.World({"emit": {}})
    clock = execute.Clock()
    cut = execute(emit(), {}, world=world, clock=clock, stop_after=1)
    clock.now += 5000
    execute(emit(), {}, world=world, clock=clock, journal=cut.journal)
    (first,), (second,) = cut.performing, world.performed
    assert (first.key, first.arguments) == (second.key, second.arguments)


def test_attributes_may_be_expressions_and_what_is_null_is_not_there(execute):
    given = {
        "id": "${ .id }",
        "source": "https://shop.example/${x}",
        "subject": "${ .none }",
        "time": "2026-11-24T15:55:18+01:00",
        "number": "${ .n }",
        "urgent": True,
        "data": None,
    }
    outcome = execute(emit(**given), {"id": "7", "n": 3})
    assert outcome.output == {
        "specversion": "1.0",
        "id": "7",
        "source": "https://shop.example/${x}",
        "type": "paid",
        "time": "2026-11-24T15:55:18+01:00",
        "number": 3,
        "urgent": True,
        "data": None,
    }
    assert len(outcome.journal) == 1


@pytest.mark.parametrize(
    "given",
    [
        {"type": ""},
        {"type": "${ 5 }"},
        {"type": "${ null }"},
        {"source": "${ {} }"},
        {"time": "${ 5 }"},
        {"time": "yesterday"},
        {"number": "${ 1.5 }"},
        {"Upper": "x"},
        {"other": "${ [] }"},
        {"specversion": "2.0"},
    ],
)
def test_what_is_no_event_is_a_configuration_error(execute, given):
    world = execute.World()
    assert kind(execute(emit(**given), {}, world=world)) == ("configuration", "/do/0/tell")
    assert world.performed == []


def test_an_event_is_bounded(execute):
    assert kind(execute(emit(data='${ "x" * 1100000 }'), {})) == ("runtime", "/do/0/tell")


def test_a_sink_may_be_an_expression_and_failures_are_tried_again(execute):
    answers = iter([EffectResult(None, error(Kind.COMMUNICATION, "full", status=429)), {"receivers": 0}])
    world = execute.World({"emit": lambda _effect: next(answers)})
    outcome = execute(emit({"metadata": {"sink": "${ .url }"}}), {"url": "https://sink"}, world=world)
    assert outcome.output["type"] == "paid"
    assert [effect.arguments["sink"] for effect in world.performed] == ["https://sink", "https://sink"]


def run(task=None, **more):
    flow = {"namespace": "shop", "name": "check", "version": "1.0.0", "input": {"order": "${ .order }"}}
    return [{"check": {"run": {"workflow": flow, **more}, **(task or {})}}]


STARTED = {"run.workflow": {"execution": "evt_2"}}
END = "/do/0/check#0:end"


def test_another_flow_is_started_once_and_its_end_waited_for(execute):
    world = execute.World(STARTED)
    outcome = execute(run(), {"order": 5}, world=world)
    assert outcome.step is None
    assert list(outcome.subscriptions) == [Subscription(END, execution_id="evt_2")]
    (effect,) = world.performed
    assert effect.arguments == {
        "flow": "shop.check",
        "version": "1.0.0",
        "input": {"order": 5},
        "parent": "evt_1",
        "depth": 0,
        "key": "evt_1:/do/0/check#0",
    }
    ended = JournalEntry(END, b'{"ok":true}')
    assert execute(run(), {"order": 5}, world=world, journal=(*outcome.journal, ended)).output == {"ok": True}
    assert len(world.performed) == 1


def test_the_error_of_the_other_flow_is_raised_at_the_task_and_can_be_caught(execute):
    failed = WorkflowError("https://example.com/own", 409, "Own", "/do/7/x", "why")
    journal = (JournalEntry("/do/0/check#0", orjson.dumps(STARTED["run.workflow"])), JournalEntry(END, None, failed))
    expected = {
        "type": "https://example.com/own",
        "status": 409,
        "title": "Own",
        "instance": "/do/0/check",
        "detail": "why",
    }
    assert execute(run(), {"order": 5}, journal=journal).error.as_dict() == expected
    caught = [{"t": {"try": run(), "catch": {"as": "e", "do": [{"s": {"set": {"e": "${ $e }"}}}]}}}]
    journal = tuple(JournalEntry(entry.key.replace("/do/0", "/do/0/t/try/0"), *_result(entry)) for entry in journal)
    output = execute(caught, {"order": 5}, journal=journal).output
    assert output == {"e": {**expected, "instance": "/do/0/t/try/0/check"}}


def _result(entry):
    return entry.output, entry.error


def test_a_flow_that_is_not_waited_for_hands_on_the_input(execute):
    outcome = execute(run(**{"await": False}), {"order": 5}, world=execute.World(STARTED))
    assert outcome.output == {"order": 5}


def test_a_timeout_ends_the_waiting_for_a_flow(execute):
    outcome = execute(run({"timeout": {"after": {"hours": 1}}}), {"order": 5}, world=execute.World(STARTED))
    assert (outcome.error.status, outcome.error.instance) == (408, "/do/0/check")


def test_a_flow_that_can_not_be_started_faults_the_task(execute):
    world = execute.World({"run.workflow": EffectResult(None, error(Kind.CONFIGURATION, "no such flow"))})
    assert kind(execute(run(), {"order": 5}, world=world)) == ("configuration", "/do/0/check")


@pytest.mark.parametrize(
    ("process", "function"),
    [
        ({"script": {"language": "js", "code": "x", "stdin": "${ .n }"}}, "run.script"),
        ({"shell": {"command": "x", "stdin": "${ .n }"}}, "run.shell"),
    ],
)
def test_scripts_and_shells_are_effects_with_what_is_written_evaluated(execute, process, function):
    world = execute.World({function: "out"})
    do = [{"r": {"run": {**process, "return": "stderr"}}}]
    assert execute(do, {"n": 1}, world=world).output == "out"
    (effect,) = world.performed
    (written,) = process.values()
    assert (effect.function, effect.arguments) == (function, {**written, "stdin": 1, "return": "stderr", "await": True})
    do[0]["r"]["run"]["await"] = False
    assert execute(do, {"n": 1}, world=world).output == {"n": 1}
    assert world.performed[1].arguments["await"] is False


@pytest.mark.parametrize("function", ["emit", "run.workflow"])
def test_no_call_may_name_what_is_behind_other_tasks(execute, function):
    with pytest.raises(ValueError, match=f"/do/0/a: {function} "):
        execute([{"a": {"call": function, "with": {}}}], {})


def test_urls_of_callbacks_are_good_for_one_callback_each(execute):
    do = [
        {"first": {"set": {"url": "${ $runtime.metadata.callbacks.approval }"}, "export": {"as": "[.url]"}}},
        {"l": {"listen": {"to": {"any": [{"with": {"type": "approval"}}, {"with": {"type": "told"}}]}}}},
        {"then": {"set": {"urls": "${ $context + [$runtime.metadata.callbacks.approval] }"}}},
    ]
    webhook = {"callbacks": {"approval": {}}}

    def after(key, **event):
        arrived = JournalEntry(f"/do/1/l#0:{key}", orjson.dumps({"type": "approval", "data": 1, **event}))
        urls = OneTimeUrls(["approval"], lambda name, n: f"/{name}/{n}")
        return execute(do, {}, webhook=webhook, journal=(arrived,), workflow={"one_time": urls}).output["urls"]

    assert after("callback", onetime=True) == ["/approval/0", "/approval/1"]
    assert after("callback") == ["/approval/0", "/approval/0"]
    assert after("event", type="told", onetime=True) == ["/approval/0", "/approval/0"]
