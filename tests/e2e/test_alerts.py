"""`examples/alerts.yaml`, with a real sink: few messages, whatever goes wrong, each said once and with right counts."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from support.http_servers import http_server
from support.systems import document, kill, until

from flowhook.model import Status

pytestmark = pytest.mark.e2e

EXAMPLE = (Path(__file__).parents[2] / "examples" / "alerts.yaml").read_text()
SINK = "/services/digest"
PERIOD = 5  # seconds
FAULTS = 500
FAILS = """
- fail:
    raise: {error: {type: https://example.com/errors/order, status: 400, title: "${ .body.title }"}}
"""
COUNTED = re.compile(r"(digest-\w+) faulted (?:once|(\d+) times) at /do/0/fail: (\w+) \((evt_\w+)\)")
CALLS = """
- call: {{call: http, with: {{method: post, endpoint: "{url}", body: {{}}}}}}
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def alerts(system):
    await begin(system)
    yield
    await system.client.flows.delete("alerts-digest")


async def begin(system):
    brief = EXAMPLE.replace("name: alerts", "name: alerts-digest").replace("messenger-url", "messenger-digest")
    assert "period: PT5M" in brief
    await system.secrets(messenger_digest=f"{system.outside.url}{SINK}")
    await system.apply(brief.replace("PT5M", f"PT{PERIOD}S").encode())


def told(system, about):
    """Return the messages that begin with a word."""
    texts = [json.loads(request.body)["text"] for request in system.received(SINK)]
    return [text for text in texts if text.startswith(f"{about} ")]


async def test_of_many_faults_there_is_one_message_for_each_flow_and_error_and_period(system):
    flows = ("digest-a", "digest-b")
    await system.apply(*(document(flow, do=FAILS) for flow in flows))
    wanted = Counter((flows[number % 5 > 2], f"error{number % 3}") for number in range(FAULTS))
    for (flow, title), count in wanted.items():
        await asyncio.gather(*(system.client.ingest(flow, {"title": title}) for _ in range(count)))

    counts, messages = Counter(), defaultdict(list)

    def all_counted():
        counts.clear()
        messages.clear()
        for text in (text for flow in flows for text in told(system, flow)):
            flow, count, title, execution_id = COUNTED.fullmatch(text).groups()
            counts[flow, title] += int(count or 1)
            messages[flow, title].append(execution_id)
        return counts.total() >= FAULTS

    await until(all_counted, "all faults are told")
    told_ms = time.time() * 1000
    assert counts == wanted
    faulted = {each.id: each for flow in flows for each in await system.executions(flow, statuses=[Status.FAULTED])}
    assert len(faulted) == FAULTS
    # each message was a period after the one before; it is one, unless this machine took longer than another period
    most = (told_ms - min(each.end_time_ms for each in faulted.values())) // (1000 * PERIOD)
    for (flow, _), ids in messages.items():
        assert all(faulted[each].flow_id == flow for each in ids)
        assert len(ids) <= most
    assert await system.executions("alerts-digest", statuses=[Status.FAULTED]) == []


async def test_a_silence_is_told_when_it_begins_and_when_it_ends(system):
    await system.apply(document("digest-shy", webhook="{auth: none, expect: {every: PT1S}}"))
    [began] = await until(lambda: told(system, "digest-shy"), "the silence is told")
    assert re.fullmatch(r"digest-shy got no event since \d{4}-\d\d-\d\dT[\d:.]+Z", began)
    await system.client.flows.delete("digest-shy")
    await until(lambda: len(told(system, "digest-shy")) > 1, "its end is told")
    assert told(system, "digest-shy") == [began, "digest-shy is not silent any more"]


async def test_a_silence_outlasts_a_router_that_is_killed_and_each_change_is_told_once(restarted):
    restarted.gate.open.set()
    await begin(restarted)
    await restarted.apply(document("digest-shy", webhook="{auth: none, expect: {every: PT1S}}"))
    await until(lambda: told(restarted, "digest-shy"), "the silence is told")
    await kill(restarted.cluster, "router-1")
    for changes in (2, 4):  # with each event the silence ends, and another one begins
        await until_accepted(restarted, "digest-shy")
        await until(lambda most=changes: len(told(restarted, "digest-shy")) > most, "the next silence is told")
    await restarted.client.flows.delete("digest-shy")
    await until(lambda: len(told(restarted, "digest-shy")) > 5, "the end is told")
    kinds = [text.partition("digest-shy ")[2][:6] for text in told(restarted, "digest-shy")]
    assert kinds == ["got no", "is not"] * 3
    await restarted.client.flows.delete("alerts-digest")


async def until_accepted(system, flow):
    async def is_accepted():
        with suppress(aiohttp.ClientError, TimeoutError):
            return (await system.send(flow, {})).status == 202

    await until(is_accepted, "an event is accepted")


@pytest.mark.release  # a destination has to be up for half a minute
async def test_an_incident_is_told_when_it_is_opened_and_when_it_is_closed(system):
    status = 503

    async def answer(_request):
        return web.Response(status=status)

    async with http_server(answer) as url:
        outage = "{outage: {failures: 2, probe: PT1S}, retry: quick}"
        await system.apply(document("digest-down", do=CALLS.format(url=url), execution=outage))
        sent = [await system.send("digest-down", {}) for _ in range(4)]
        [opened] = await until(lambda: told(system, url.rstrip("/")), "the incident is told")
        assert " is down: " in opened
        status = 200
        for each in sent:
            await system.completed(each.id)
        await until(lambda: len(told(system, url.rstrip("/"))) > 1, "its end is told")
        [_, closed] = told(system, url.rstrip("/"))
        assert " is up again, down since " in closed
    await system.client.flows.delete("digest-down")
