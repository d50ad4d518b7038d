"""What waits loses nothing and goes on at its time, whatever is killed meanwhile, and when all of it is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal

import aiohttp
import orjson
import pytest
from support.outside import outside_world
from support.patience import PATIENCE
from support.systems import EVENT_ID, document, kill, running_system, until

from flowhook.errors import UnavailableError
from flowhook.model import Status

pytestmark = pytest.mark.e2e

SECONDS = 6
"""Of every delay in here: more than it takes to start anew, on most machines."""

EXECUTIONS = 60
WEBHOOK = "{auth: none, callbacks: {approval: {}}}"
LISTEN = "- decide: {listen: {to: {one: {with: {type: approval}}}}}"
BRIEFLY = f"""
- careful:
    try:
      - decide: {{listen: {{to: {{one: {{with: {{type: approval}}}}}}}}, timeout: {{after: {{seconds: {SECONDS}}}}}}}
    catch: {{do: [{{giveUp: {{set: {{decided: nobody}}}}}}]}}
"""
RETRYING = f"""
- careful:
    try:
      TASK
    catch: {{retry: {{delay: {{seconds: {SECONDS}}}, limit: {{attempt: {{count: 2}}}}}}}}
"""
PAUSE = f"- pause: {{wait: {{seconds: {SECONDS}}}}}"
PAID = "{with: {type: com.example.paid}}"
HEAR = f"- hear: {{listen: {{to: {{one: {PAID}}}}}}}"
PAY = "- pay: {emit: {event: {with: {type: com.example.paid, data: {n: 1}}}}}"
CHILD = "- child: {run: {workflow: {namespace: default, name: pauses, version: latest}}}"


class FlakyWorld:
    """An outside world that answers well, but for the first time that it is asked at `/flaky`."""

    def __init__(self):
        self.requested = False

    def __call__(self, request):
        if request.path == "/flaky" and not self.requested:
            self.requested = True
            return 503, {"ok": False}
        return 200, {"ok": True}


def calling(outside, path, name, body="1"):
    return f"- {name}: {{call: http, with: {{method: post, endpoint: '{outside.url}/{path}', body: {body}}}}}"


def asking(outside):
    return calling(outside, "ask", "ask", "{url: '${ $runtime.metadata.callbacks.approval }'}")


def bodies_by_execution(outside, path):
    """Return what executions sent to a path: ID to the bodies of different effects."""
    sent = {}
    for request in outside.received:
        if request.path == path:
            sent.setdefault(EVENT_ID.search(request.key)[0], {})[request.key] = orjson.loads(request.body)
    return {execution_id: list(bodies.values()) for execution_id, bodies in sent.items()}


def place_of(url):
    """Return the path of a URL: after a restart the port is another one."""
    return re.fullmatch(r"http://[^/]+(/.*)", url)[1]


def ticks(outside):
    return sum(request.path == "/tick" for request in outside.received)


async def answers(system):
    try:
        return await system.executions("asks")
    except UnavailableError:
        return False


async def is_waiting(system, execution_id):
    return (await system.client.executions.get(execution_id)).execution.status is Status.WAITING


async def approve(system, place, number):
    """Post a callback until it is acknowledged; 410 says that it was before, and the answer was lost."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                answer = await system.request("POST", place, json={"n": number})
                if answer.status in (202, 410):
                    return
                assert answer.status == 503, answer
            await asyncio.sleep(0.05)


async def test_every_callback_that_was_acknowledged_arrives_whatever_is_killed():
    async with running_system("--allow-private-addresses", lease_seconds=2) as system:
        outside = system.outside
        act = calling(outside, "act", "act", "{n: '${ .[0].body.n }'}")
        await system.apply(document("asks", webhook=WEBHOOK, do=f"{asking(outside)}\n{LISTEN}\n{act}"))
        numbers = {(await system.send("asks", {})).id: number for number in range(EXECUTIONS)}
        await kill(system.cluster, "runner-1")
        await until(lambda: len(bodies_by_execution(outside, "/ask")) == EXECUTIONS, "all have told their URL")

        places = {
            execution_id: place_of(body["url"])
            for execution_id, (body,) in bodies_by_execution(outside, "/ask").items()
        }
        approvals = []
        for part, processes in enumerate(
            (["router-1"], ["runner-1", "runner-2"], ["router-1", "runner-1", "runner-2", "edge-1"])
        ):
            some = [(places[execution_id], number) for execution_id, number in numbers.items() if number % 3 == part]
            approvals += [asyncio.create_task(approve(system, place, number)) for place, number in some]
            await asyncio.wait(approvals[-len(some) :], return_when=asyncio.FIRST_COMPLETED)
            await kill(system.cluster, *processes)
        await asyncio.gather(*approvals)
        await until(lambda: answers(system), "the router is back")

        for execution_id, number in numbers.items():
            detail = await system.ended(execution_id)
            assert detail.execution.status is Status.COMPLETED, detail.execution.error
            assert bodies_by_execution(outside, "/act")[execution_id] == [{"n": number}]


async def test_all_that_waits_goes_on_at_its_time_after_a_cold_start(tmp_path):
    options = ("--allow-private-addresses", "--runners", "1")
    async with outside_world(FlakyWorld()) as outside:
        async with running_system(*options, data_dir=tmp_path) as system:
            before, after = calling(outside, "before", "first"), calling(outside, "after", "last")
            retrying = RETRYING.strip().replace("TASK", calling(outside, "flaky", "ask"))
            await system.apply(
                document("pauses", do=f"{before}\n{PAUSE}\n{after}"),
                document("retries", do=f"{before}\n{retrying}"),
                document("awaits", do=f"{before}\n{CHILD}"),
                document("asks", webhook=WEBHOOK, do=f"{asking(outside)}\n{LISTEN}"),
                document("brief", webhook=WEBHOOK, do=BRIEFLY.strip()),
                document("hears", do=HEAR),
                document("pays", do=PAY),
                document("follows", schedule=f"{{on: {{one: {PAID}}}}}", do="- keep: {set: {heard: '${ .[0] }'}}"),
                document("ticks", schedule="{every: {seconds: 1}}", do=calling(outside, "tick", "tick")),
            )
            timed = {name: (await system.send(name, {})).id for name in ("pauses", "retries", "awaits", "brief")}
            listening, hearing = (await system.send("asks", {})).id, (await system.send("hears", {})).id
            for execution_id in (*timed.values(), listening, hearing):
                await until(lambda id_=execution_id: is_waiting(system, id_), "the execution waits")
            await until(lambda: ticks(outside), "the schedule has fired")
            os.killpg(system.cluster.supervisor.pid, signal.SIGKILL)

        async with running_system(*options, data_dir=tmp_path) as system:
            ((reported,),) = bodies_by_execution(outside, "/ask").values()
            await approve(system, place_of(reported["url"]), 1)
            assert [each["body"] for each in await system.completed(listening)] == [{"n": 1}]
            await system.completed((await system.send("pays", {})).id)
            assert await system.completed(hearing) == [{"n": 1}]
            (following,) = await until(lambda: system.executions("follows"), "the event has started a flow")
            assert await system.completed(following.id) == {"heard": {"n": 1}}
            before = ticks(outside)
            await until(lambda: ticks(outside) > before + 1, "the schedule goes on")
            for execution_id in timed.values():
                detail = await system.ended(execution_id)
                assert detail.execution.status is Status.COMPLETED, detail.execution.error
                assert detail.execution.end_time_ms - detail.execution.receive_time_ms >= SECONDS * 1000
    calls = [request.path for request in outside.received if request.path not in ("/ask", "/tick")]
    # the child of `awaits` calls, too
    assert sorted(calls) == ["/after"] * 2 + ["/before"] * 4 + ["/flaky"] * 2
