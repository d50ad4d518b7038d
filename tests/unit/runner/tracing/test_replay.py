"""Traces of all kinds of tasks, from the journals that runs of them leave."""

from __future__ import annotations

from dataclasses import replace

from support.cases import cases

from flowhook.events import cloud_events
from flowhook.model import Event, FailedResponse, JournalEntry, Origin, Status, held_results
from flowhook.model.replays import ReplayOrigin
from runner.interpreter.effects import EffectResult
from runner.interpreter.errors import Kind, error

ID = "evt_01999999990000000000000000"
NOW = 1_700_000_000_000
URL = "https://api.example.com/v1/orders"


def names(run):
    return [each.name for each in run.trace.tasks]


def test_data_tasks_have_their_input_their_output_and_the_context_around_them(run):
    ran = run(
        [
            {"first": {"set": {"b": "${ .a + 1 }"}, "export": {"as": "{kept: .b}"}}},
            {"second": {"set": {"c": "${ $context.kept * 2 }"}}},
        ],
        {"a": 1},
    )
    first, second = ran.trace.tasks
    assert (first.number, first.task, first.kind, first.outcome) == (1, "/do/0/first", "set", "completed")
    assert (ran.value(first.input), ran.value(first.output)) == ({"a": 1}, {"b": 2})
    assert (ran.value(first.context_before), ran.value(first.context_after)) == ({"a": 1}, {"kept": 2})
    assert (ran.value(second.input), ran.value(second.output)) == ({"b": 2}, {"c": 4})
    assert (ran.trace.outcome, ran.value(ran.trace.output), ran.trace.diverged) == ("completed", {"c": 4}, "")


def test_a_call_has_its_evaluated_request_and_the_journaled_response(run):
    given = {"method": "post", "endpoint": URL, "headers": {"X-Order": "${ .id }"}, "body": {"order": "${ .id }"}}
    ran = run([{"order": {"call": "http", "with": given}}], {"id": "o-1"}, {"http": {"ok": True}})
    (request,) = ran.task("order").requests
    assert (request.kind, request.function, request.answered) == ("call", "http", True)
    assert ran.value(request.arguments) == {
        "method": "post",
        "endpoint": URL,
        "headers": {"X-Order": "o-1"},
        "body": {"order": "o-1"},
    }
    assert ran.value(request.result) == {"ok": True}
    assert request.idempotency_key.endswith(":/do/0/order#0")


def test_the_answer_to_a_call_that_failed_is_shown_while_there_is_room(run):
    away = error(Kind.COMMUNICATION, "away", status=503)
    away = replace(away, response=FailedResponse(503, URL, "down" * 1000, 4000))
    call = {"call": "http", "with": {"method": "get", "endpoint": URL}}
    policy = {"delay": {"seconds": 1}, "limit": {"attempt": {"count": 99}}}
    ran = run([{"order": {**call, "metadata": {"retry": policy}}}], {}, {"http": EffectResult(None, away)})
    shown = [each.error.response for each in ran.task("order").requests if each.error is not None]
    assert shown[0] == away.response
    assert sum(len(each.body) for each in shown if each is not None) <= 256 * 1024
    assert len(shown) == 100


def test_the_failure_that_ends_an_execution_is_shown_at_its_call_although_no_journal_has_it(run):
    refused = EffectResult(None, error(Kind.COMMUNICATION, "refused", status=403, instance="/do/0/outer/do/0/order"))
    call = {"call": "http", "with": {"method": "get", "endpoint": URL}}
    ran = run([{"outer": {"do": [{"order": call}]}}, {"never": {"set": {}}}], {}, {"http": refused})
    assert (ran.trace.outcome, ran.trace.error.status, ran.trace.diverged) == ("faulted", 403, "")
    assert [(each.name, each.outcome) for each in ran.trace.tasks] == [("outer", "faulted"), ("order", "faulted")]
    assert ran.task("order").error.detail == "refused"
    (request,) = ran.task("order").requests
    assert (request.answered, request.error.status, ran.value(request.arguments)["endpoint"]) == (True, 403, URL)


def test_retries_are_requests_of_one_task_with_the_waits_between_them(run):
    answers = iter([EffectResult(None, error(Kind.COMMUNICATION, "away", status=503)), EffectResult(b'{"ok":1}')])
    retry = {"delay": {"seconds": 2}, "limit": {"attempt": {"count": 3}}}
    call = {"call": "http", "with": {"method": "get", "endpoint": URL}, "metadata": {"retry": retry}}
    ran = run([{"order": call}], {}, {"http": lambda _effect: next(answers)})
    task = ran.task("order")
    assert [(each.kind, each.answered) for each in task.requests] == [("call", True), ("retry", True), ("call", True)]
    failed, wait, succeeded = task.requests
    assert (failed.error.status, wait.until_ms, ran.value(succeeded.result)) == (503, wait.answered_ms, {"ok": 1})
    assert (task.tries, task.outcome) == (2, "completed")


def test_a_retry_that_is_due_later_has_its_time(run):
    away = EffectResult(None, error(Kind.COMMUNICATION, "away", status=503))
    retry = {"delay": {"seconds": 60}, "limit": {"attempt": {"count": 3}}}
    call = {"call": "http", "with": {"method": "get", "endpoint": URL}, "metadata": {"retry": retry}}
    ran = run([{"order": call}], {}, {"http": away}, stop_after=2)
    failed, due = ran.task("order").requests
    assert (failed.error.status, due.kind, due.answered) == (503, "retry", False)
    assert due.until_ms - ran.detail.event.receive_time_ms >= 60_000
    assert ran.task("order").outcome == "unfinished"


def test_a_try_that_catches_shows_the_failure_and_what_the_catch_did(run):
    refused = EffectResult(None, error(Kind.COMMUNICATION, "no", status=404))
    ran = run(
        [
            {
                "careful": {
                    "try": [{"order": {"call": "http", "with": {"method": "get", "endpoint": URL}}}],
                    "catch": {"do": [{"note": {"set": {"failed": "${ $error.status }"}}}]},
                }
            }
        ],
        {},
        {"http": refused},
    )
    assert [(each.name, each.outcome) for each in ran.trace.tasks] == [
        ("careful", "completed"),
        ("order", "faulted"),
        ("note", "completed"),
    ]
    assert ran.value(ran.trace.output) == {"failed": 404}


def test_iterations_and_functions_have_the_keys_of_the_history(run):
    ran = run(
        [
            {"each": {"for": {"in": ".list", "each": "x"}, "do": [{"double": {"set": {"y": "${ $x * 2 }"}}}]}},
            {"order": {"call": "shout", "with": {"text": "a"}}},
        ],
        {"list": [1, 2]},
        use={"functions": {"shout": {"set": {"loud": "${ .text | ascii_upcase }"}}}},
    )
    keys = [each.task for each in ran.trace.tasks]
    assert keys == [
        "/do/0/each",
        "/do/0/each/do/0/double[0]",
        "/do/0/each/do/0/double[1]",
        "/do/1/order",
        "/do/1/order#0 /use/functions/shout",
    ]
    assert ran.value(ran.trace.output) == {"loud": "A"}


def test_a_switch_says_where_it_led_and_a_condition_that_a_task_was_skipped(run):
    ran = run(
        [
            {"choose": {"switch": [{"big": {"when": ".n > 1", "then": "last"}}]}},
            {"between": {"set": {}}},
            {"last": {"if": ".n > 100", "set": {"x": 1}}},
        ],
        {"n": 2},
    )
    assert [(each.name, each.outcome, each.then) for each in ran.trace.tasks] == [
        ("choose", "completed", "last"),
        ("last", "skipped", "continue"),
    ]


def test_the_branches_of_a_fork_are_told_apart_and_those_that_lost_are_cancelled(run):
    wait, call = {"wait": {"seconds": 5}}, {"call": "http", "with": {"method": "get", "endpoint": URL}}
    fork = {"fork": {"compete": True, "branches": [{"slow": wait}, {"fast": call}]}}
    ran = run([{"race": fork}], {}, {"http": {"n": 1}})
    assert ran.task("fast").outcome == "completed"
    assert ran.task("slow").outcome == "cancelled"
    assert [(each.kind, each.answered) for each in ran.task("slow").requests] == [("wait", False)]
    assert ran.trace.diverged == ""


def test_a_wait_has_its_deadline_and_the_time_at_which_it_ended(run):
    ran = run([{"pause": {"wait": {"seconds": 5}}}, {"after": {"set": {"x": 1}}}], {})
    (wait,) = ran.task("pause").requests
    assert (wait.kind, wait.until_ms - ran.detail.event.receive_time_ms, wait.answered) == ("wait", 5000, True)
    assert wait.answered_ms == wait.until_ms


def test_a_listen_has_the_event_that_it_received(run):
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "paid", "data": {"sum": 7}}
    listen = {"listen": {"to": {"one": {"with": {"type": "paid"}}}}}
    ran = run([{"hear": listen}, {"after": {"set": {"sum": "${ .[0].sum }"}}}], {}, events=[(":event", event)])
    (request,) = ran.task("hear").requests
    assert (request.kind, request.types, request.answered, ran.value(request.result)) == (
        "listen",
        ("paid",),
        True,
        event,
    )
    assert ran.value(ran.trace.output) == {"sum": 7}


def test_a_task_that_still_waits_says_what_for_and_ends_the_trace(run):
    callbacks = {"approval": {"auth": "one_time_url"}}
    listen = {"listen": {"to": {"one": {"with": {"type": "approval"}}}}}
    ran = run(
        [{"ask": {"set": {"url": "${ $runtime.metadata.callbacks.approval }"}}}, {"hear": listen}],
        {},
        webhook={"callbacks": callbacks},
    )
    (request,) = ran.task("hear").requests
    assert (request.callbacks, request.types, request.answered) == (("approval",), (), False)
    assert (ran.trace.outcome, ran.task("hear").outcome) == ("unfinished", "unfinished")
    assert ran.value(ran.task("ask").output) == {"url": "/hook/test/approval/•••"}
    assert [(each.name, each.used) for each in ran.trace.callbacks] == [("approval", 0)]


def test_a_used_one_time_url_is_counted(run):
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "/s",
        "type": "approval",
        "data": {},
        cloud_events.ONE_TIME: True,
    }
    listen = {"listen": {"to": {"one": {"with": {"type": "approval"}}}}}
    webhook = {"callbacks": {"approval": {"auth": "one_time_url"}}}
    ran = run([{"hear": listen}], {}, events=[(":callback", event)], webhook=webhook)
    assert [(each.name, each.used) for each in ran.trace.callbacks] == [("approval", 1)]


def test_an_emitted_event_is_a_request_with_the_number_of_its_receivers(run):
    event = {"type": "done", "source": "/s", "data": "${ . }"}
    ran = run([{"tell": {"emit": {"event": {"with": event}}}}], {"a": 1}, {"emit": {"receivers": 2}})
    clock, emitted = ran.task("tell").requests
    assert (clock.kind, clock.answered_ms, emitted.kind) == ("time", ran.detail.event.receive_time_ms, "emit")
    assert (ran.value(emitted.arguments)["event"]["data"], ran.value(emitted.result)) == ({"a": 1}, {"receivers": 2})
    assert (ran.value(ran.task("tell").output)["data"], ran.trace.diverged) == ({"a": 1}, "")


def test_a_started_flow_is_a_request_with_the_id_of_its_execution_and_so_is_its_end(run):
    child = "evt_01999999990000000000000001"
    flow = {"run": {"workflow": {"namespace": "default", "name": "other", "input": {"n": "${ .a }"}}}}
    ran = run([{"sub": flow}], {"a": 1}, {"run.workflow": {"execution": child}}, events=[(":end", {"ended": True})])
    started, awaited = ran.task("sub").requests
    assert (started.kind, started.execution_id, ran.value(started.arguments)["input"]) == ("workflow", child, {"n": 1})
    assert (awaited.kind, awaited.execution_id, ran.value(awaited.result)) == ("completion", child, {"ended": True})
    assert ran.trace.diverged == ""


def test_a_call_without_a_journaled_result_ends_the_trace_and_is_not_performed(run):
    call = {"call": "http", "with": {"method": "get", "endpoint": URL}}
    ran = run([{"one": call}, {"two": call}, {"three": {"set": {}}}], {}, {"http": {"n": 1}}, stop_after=1)
    assert [(each.name, each.outcome) for each in ran.trace.tasks] == [("one", "completed"), ("two", "unfinished")]
    assert [each.answered for each in ran.task("two").requests] == [False]
    assert (ran.trace.outcome, ran.trace.diverged) == ("unfinished", "")


def test_a_task_whose_output_a_replay_gave_was_not_performed(run):
    call = {"call": "http", "with": {"method": "get", "endpoint": URL}}
    held = held_results.hold([JournalEntry(held_results.given_output_key("/do/0/one"), b'{"given":1}')])
    ran = run([{"one": call}, {"two": {"set": {"x": "${ .given }"}}}], {}, held=held)
    (request,) = ran.task("one").requests
    assert (request.kind, request.answered, ran.value(request.result)) == ("given_output", True, {"given": 1})
    assert (ran.value(ran.trace.output), ran.trace.diverged) == ({"x": 1}, "")


def test_the_keys_of_a_replay_that_took_results_over_are_those_of_the_original_and_not_shown(run):
    call = {"call": "http", "with": {"method": "get", "endpoint": URL}}
    event = Event(ID, "test", NOW, None, "", "", "", "", "", (), b"{}", origin=Origin.WORKFLOW)
    for origin, shown in [(None, True), (ReplayOrigin(), True), (ReplayOrigin(from_failed_task=True), False)]:
        ran = run([{"one": call}], {}, {"http": {}}, event=event._replace(replay=origin))
        assert bool(ran.task("one").requests[0].idempotency_key) is shown


def test_a_divergence_is_reported(run):
    call = {"call": "http", "with": {"method": "get", "endpoint": URL}}
    ran = run([{"one": call}], {}, {"http": {"n": 1}})
    other = run([{"other": call}], {}, {"http": {"n": 1}}, journal=ran.detail.journal)
    assert "/do/0/one#0" in other.trace.diverged
    assert other.trace.outcome == "faulted"


def test_an_execution_that_did_not_come_to_an_end_of_its_own_diverges_from_none(run):
    call = {"call": "http", "with": {"method": "get", "endpoint": URL}}
    ran = run([{"one": call}], {}, {"http": {"n": 1}}, status=Status.CANCELLED)
    assert (ran.trace.outcome, ran.trace.diverged) == ("completed", "")


def test_another_output_than_the_recorded_one_is_a_divergence(run):
    ran = run(
        [{"one": {"set": {"x": "${ $secrets.key }"}}}], {}, secrets={"key": b"hunter22"}, use={"secrets": ["key"]}
    )
    assert ran.value(ran.trace.output) == {"x": "•••"}
    assert "output" in ran.trace.diverged
    assert ran.trace.reads_secrets


def test_a_compacted_journal_starts_at_the_snapshot(run):
    call = {"call": "http", "with": {"method": "get", "endpoint": URL}}
    loop = {"for": {"in": "[range(150)]", "each": "x"}, "do": [{"get": call}]}
    ran = run(
        [{"first": {"set": {"a": 1}}}, {"loop": loop}, {"last": {"set": {"n": "${ .n }"}}}], {}, {"http": {"n": 3}}
    )
    assert ran.trace.compacted
    assert names(ran)[:4] == ["first", "loop", "get", "get"]
    assert ran.value(ran.task("first").output) == {"a": 1}
    assert len(ran.trace.tasks) < len(ran.observed.ended)
    assert ran.value(ran.trace.output) == {"n": 3}
    assert ran.trace.diverged == ""
    numbers = [each.number for each in ran.trace.tasks]
    assert numbers[-1] == max(ran.observed.ended)


def test_a_task_that_a_timeout_cancelled_is_not_unfinished_although_the_execution_goes_on(run):
    limited = {"do": [{"w": {"wait": {"seconds": 9}}}], "timeout": {"after": {"seconds": 1}}}
    listens = {"listen": {"to": {"one": {"with": {"type": "z"}}}}}
    guarded = {"try": [{"limited": limited}], "catch": {"do": [{"c": {"set": {}}}]}}
    ran = run([{"all": {"do": [{"t": guarded}, {"l": listens}]}}], {})
    assert (ran.task("w").outcome, ran.task("limited").outcome, ran.task("l").outcome) == (
        "cancelled",
        "faulted",
        "unfinished",
    )


def test_tasks_before_the_compaction_of_a_replay_are_not_computed_as_if_it_had_no_given_outputs(run):
    event = Event(ID, "test", NOW, None, "", "", "", "", "", (), b"{}", origin=Origin.WORKFLOW)
    held = held_results.hold([JournalEntry(held_results.given_output_key("/do/0/block"), b"1")])
    do = [{"block": {"do": [{"inner": {"set": {}}}]}}, {"w": {"wait": {"seconds": 1}}}, {"last": {"set": {"x": 1}}}]
    ran = run(do, {}, held=held, event=event._replace(replay=ReplayOrigin(task="/do/0/block", output_given=True)))
    assert ran.trace.compacted
    assert [(each.number, each.name) for each in ran.trace.tasks] == [(2, "w"), (3, "last")]


def test_the_trace_of_a_batch_has_the_inputs_of_all_its_events(run):
    first = Event(ID, "test", NOW, None, "", "", "", "", "", (), b"1", origin=Origin.WORKFLOW)
    event = first._replace(batch=tuple(first._replace(id=f"{ID[:-1]}{n}", body=b"%d" % n) for n in (2, 3)))
    found = run(
        [{"sum": {"set": "${ {sum: add} }"}}],
        event=event,
        given=[1, 2, 3],
        execution={"batch": {"size": 3, "period": "PT1S"}},
    )
    assert found.value(found.task("sum").input) == [1, 2, 3]
    assert (found.value(found.task("sum").output), found.trace.body_missing) == ({"sum": 6}, False)


@cases(
    ("condition", "data", "told"),
    [
        (".body.amount > 100", {"amount": "20"}, "`.body.amount` is a text"),
        ("100 >= (.body | .amount)", {"amount": "20"}, "`.body.amount` is a text"),
        (".body.amount == $workflow.input.body.limit", {"amount": "20", "limit": 20}, "`.body.amount` is a text"),
        ("[.body.items[] | select(.n > 3)] != []", {"items": [{"n": 1}, {"n": "2"}]}, "`.body.items[].n` is a text"),
        (".body.amount > 100", {"amount": 20}, ""),
        ("(.body.amount | tonumber) > 100", {"amount": "20"}, ""),
        (".body.amount > .body.limit", {"amount": "20", "limit": "3"}, ""),
        (".body.amount > (.body.limit // 3)", {"amount": "20", "limit": "3"}, ""),
    ],
)
def test_a_condition_that_compares_a_text_with_a_number_is_told(run, condition, data, told):
    tasks = [
        {"chosen": {"if": condition, "set": {"b": 1}, "output": {"as": "$workflow.input"}}},
        {"cases": {"switch": [{"large": {"when": condition, "then": "continue"}}]}},
        {"tried": {"try": [{"fails": {"raise": {"error": "e"}}}], "catch": {"when": condition, "do": []}}},
    ]
    errors = {"e": {"type": "https://example.com/e", "status": 400}}
    ran = run(tasks, {"body": data}, use={"errors": errors})
    notes = {name: ran.task(name).notes for name in ("chosen", "cases", "tried")}
    places = {"chosen": "if", "cases": "switch.large.when", "tried": "catch.when"}
    assert {name: [note.partition(",")[0] for note in each] for name, each in notes.items()} == {
        name: [f"{place}: {told}"] if told else [] for name, place in places.items()
    }


def test_a_secret_is_not_told_to_be_a_text(run):
    ran = run(
        [{"chosen": {"if": "$secrets.limit > 3", "set": {"b": 1}}}],
        {},
        secrets={"limit": b"7"},
        use={"secrets": ["limit"]},
    )
    assert ran.task("chosen").notes == ()
