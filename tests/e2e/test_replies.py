"""Senders that wait for their flow, with the whole cluster."""

from __future__ import annotations

import asyncio
import os
import re
import signal

import pytest
import pytest_asyncio
from support.systems import document, until

from flowhook.model import Status

pytestmark = pytest.mark.e2e

REPLY = "{auth: none, respond: {mode: reply}}"
BRIEF = "{auth: none, respond: {mode: reply, timeout: PT0.5S}}"
REPEATED = "{auth: none, respond: {mode: reply}, dedupe: {key: '${ .body.order }'}}"


def calling(path, after="- done: {set: '${ . }'}"):
    """Return tasks that first call the world outside."""
    return (
        f"- ask: {{call: http, with: {{method: post, endpoint: '${{ $secrets.outside + \"{path}\" }}'}}, "
        f"output: {{as: '${{ {{said: .}} }}'}}}}\n{after}"
    )


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def flows(system):
    await system.secrets(outside=system.outside.url)
    answer = (
        "- answer: {call: reply, with: {status: 201, headers: {X-Order: '${ .body.order }', Set-Cookie: [a=1, b=2]}, "
        "body: {got: '${ .body }'}}}\n- go on: {set: {late: true}}"
    )
    await system.apply(
        document("answers", webhook=REPLY, do=answer),
        document("puts-out", webhook=REPLY, do="- sum: {set: {n: '${ .body.n + 1 }'}}"),
        document("repeated", webhook=REPEATED, do="- keep: {set: {id: '${ .id }'}}"),
        document("paused", webhook=BRIEF, do="- sum: {set: {n: '${ .body.n + 1 }'}}"),
        document("accepts", do=answer),
        document("waits", webhook=REPLY, do="- answer: {call: reply, with: {body: now}}\n- pause: {wait: {hours: 1}}"),
        document("waits-first", webhook=REPLY, do="- pause: {wait: {milliseconds: 700}}\n- sum: {set: {n: 1}}"),
    )


async def test_the_reply_is_the_answer_and_the_flow_goes_on(system):
    answer = await system.send("answers", {"order": "A-1"})
    assert (answer.status, answer.json) == (201, {"got": {"order": "A-1"}})
    assert (answer.headers["X-Order"], answer.headers.getall("Set-Cookie")) == ("A-1", ["a=1", "b=2"])
    (execution,) = await system.executions("answers", limit=1)
    assert await system.completed(execution.id) == {"late": True}


async def test_a_flow_that_waits_after_its_reply_or_before_it_answers_all_the_same(system):
    answer = await system.send("waits", {})
    assert (answer.status, answer.body) == (200, b"now")
    (execution,) = await system.executions("waits", limit=1)
    assert not execution.status.ended
    await system.client.executions.cancel(execution.id)
    assert (await system.send("waits-first", {})).json == {"n": 1}


async def test_the_output_is_the_answer_where_nothing_replies(system):
    answer = await system.send("puts-out", {"n": 1})
    assert (answer.status, answer.json, answer.headers["Content-Type"]) == (200, {"n": 2}, "application/json")


async def test_a_fault_is_reported_without_internals(system):
    answer = await system.send("puts-out", {"n": "text"})
    (execution,) = await system.executions("puts-out", limit=1)
    assert (answer.status, answer.json["reason"], answer.json["execution"]) == (502, "FLOW_FAULTED", execution.id)
    assert set(answer.json) == {"type", "title", "status", "reason", "detail", "execution"}
    assert (await system.faulted(execution.id)).type.rpartition("/")[2] == "expression"


async def test_a_repeated_delivery_gets_the_same_answer(system):
    first, second = await asyncio.gather(*(system.send("repeated", {"order": 1}) for _ in range(2)))
    assert first.status == second.status == 200
    assert first.json == second.json


async def test_a_paused_flow_is_answered_with_where_to_look_and_later_there(system):
    await system.client.flows.pause("paused")
    answer = await system.send("paused", {"n": 1})
    assert answer.status == 202
    place = answer.headers["Location"]
    assert (await system.request("GET", place)).status == 202
    await system.client.flows.resume("paused")
    await system.completed(answer.id)
    late = await system.request("GET", place)
    assert (late.status, late.json) == (200, {"n": 2})
    assert (await system.request("GET", place[:-1] + "~")).status == 404


async def test_a_reply_where_nobody_waits_does_no_harm(system):
    answer = await system.send("accepts", {"order": "A-1"})
    assert (answer.status, list(answer.json)) == (202, ["id"])
    assert await system.completed(answer.id) == {"late": True}


async def given_a_sender_that_waits_for(system, flow):
    """Send to a flow that calls the world, which holds it; return the task that waits for the answer."""
    system.gate.open.clear()
    await system.apply(document(flow, webhook=REPLY, do=calling(f"/{flow}"), use="{secrets: [outside]}"))
    sending = asyncio.create_task(system.send(flow, {}))
    await until(lambda: system.received(f"/{flow}"), "the flow calls")
    return sending


async def test_a_sender_who_goes_away_is_not_waited_for_and_the_flow_goes_on(restarted):
    sending = await given_a_sender_that_waits_for(restarted, "left")
    sending.cancel()
    held = "flowhook_edge_held_requests"

    async def released():
        lines = (await restarted.admin("/metrics")).body.decode().splitlines()
        return [line for line in lines if line.startswith(held) and line.endswith(" 0.0")]

    await until(released, "the edge lets go")
    restarted.gate.open.set()
    (execution,) = await restarted.executions("left")
    assert (await restarted.ended(execution.id)).execution.status is Status.COMPLETED


async def test_a_held_sender_gets_the_answer_when_the_router_was_killed_meanwhile(restarted):
    sending = await given_a_sender_that_waits_for(restarted, "held")
    os.kill(restarted.cluster.pid("router-1"), signal.SIGKILL)
    restarted.gate.open.set()
    answer = await sending
    assert (answer.status, answer.json) == (200, {"said": {"ok": True}})
    assert len(await restarted.executions("held")) == 1


async def test_answers_and_outputs_have_their_keys_in_the_order_they_were_written_in(system):
    keep = "- keep: {set: {zeta: 1, alpha: '${ {y: .body.z, b: .body.a} }', mid: {last: 1, first: 2}}}"
    body = "{zulu: 1, golf: '${ .id }', alfa: {y: 1, b: 2}}"
    await system.apply(
        document("ordered-reply", webhook="{auth: none, respond: {mode: reply}}", do=keep),
        document("ordered-body", webhook=f"{{auth: none, respond: {{body: {body}}}}}", do=keep),
    )
    answer = await system.send("ordered-reply", {"z": {"q": 1, "c": 2}, "a": 0})
    output = b'{"zeta":1,"alpha":{"y":{"q":1,"c":2},"b":0},"mid":{"last":1,"first":2}}'
    assert answer.body == output
    accepted = await system.send("ordered-body", {"z": 1, "a": 2})
    assert re.fullmatch(rb'{"zulu":1,"golf":"evt_\w+","alfa":{"y":1,"b":2}}', accepted.body)
    (execution,) = await system.executions("ordered-reply")
    shown = await system.flowhook("executions", "get", execution.id, "--json")
    assert f'"output":{output.decode()}' in shown.out
