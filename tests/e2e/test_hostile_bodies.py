"""Every kind of hostile body, at every kind of auth: nobody else waits, and no runner is ended.

The suite sends each body to some kinds of auth, and some bodies to each. `FLOWHOOK_HOSTILE_BODIES=small` sends every
body, with and without a signature, to every kind, which takes a quarter of an hour; `all` in the largest size as well,
which takes hours.
"""

from __future__ import annotations

import asyncio
import io
import os
import random
from functools import cache
from itertools import islice

import psutil
import pytest
import pytest_asyncio
from fuzz import flows
from fuzz.drafts import Drafts
from fuzz.signing import Draft
from support.hostile import FAMILIES, bodies
from support.senders import SenderKeys
from support.systems import running_system

from flowhook.limits import KIB, MIB

pytestmark = pytest.mark.e2e

CPU_SECONDS = 0.25
"""That an edge may compute while a request of another flow waits for its answer; what children compute is their own."""

GROWTH = 256 * MIB
"""Of an edge's memory, over everything that is sent to one flow."""

SMALL, LARGE, LARGEST = 64 * KIB, 2 * MIB, 10 * MIB

SENT = os.environ.get("FLOWHOOK_HOSTILE_BODIES", "some")
KEYS = SenderKeys()
WEBHOOKS = {
    name: webhook
    for name, webhook in flows.webhooks(KEYS, "https://publisher.invalid").items()
    if name not in ("late", "limited", "mtls", "near", "reply", "small", "waits")  # they ask for no other kind of auth
}
PARSED = "open"
"""The flow that takes every body, and runs: edge and runner parse it."""
UNLIKE = ("several", "jwt-shared", "sendgrid", "adyen", "aws-sns", "mailgun", "microsoft-graph", "github")
"""Kinds of auth that differ in what they do with a body before they know whose it is."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def attacked():
    async with running_system("--runners", "1") as system:
        for name, value in flows.SECRETS.items():
            await system.client.secrets.set(name, value)
        await system.apply(*(flows.document(name, webhook) for name, webhook in WEBHOOKS.items()))
        for name in WEBHOOKS:
            if name != PARSED:
                await system.client.flows.pause(f"{flows.NAMESPACE}.{name}")
        yield system


@cache
def small():
    """Make the small ones once; they have 25 MiB together."""
    return tuple(bodies(SMALL))


def chosen(name):
    """Give the bodies for a flow: all of them, or some that differ from flow to flow."""
    place = sorted(WEBHOOKS).index(name)
    if SENT != "some":
        yield from small()
        if SENT == "all":
            yield from bodies(LARGEST)
    elif name == PARSED:
        yield from small()
        yield from islice(bodies(LARGE), 0, None, 8)
    elif name in UNLIKE:
        yield from small()[place % 10 :: 10]
        yield from islice(bodies(LARGE, [sorted(FAMILIES)[place % len(FAMILIES)]]), place % 5, None, 5)
    else:
        yield from small()[place % 50 :: 50]


class Attack:
    """Sends requests to a flow, and requests of another one that must not wait for those.

    Attributes:
        worst: CPU seconds that the edge used while the other request waited, and the name of the body that it did for.
    """

    def __init__(self, system, name):
        self._system = system
        self._name = name
        self._url = f"{system.cluster.http}/hook/{flows.NAMESPACE}.{name}"
        self._drafts = Drafts(WEBHOOKS, KEYS, random.Random(0), system.cluster.http.partition("://")[2])
        self._edge = psutil.Process(system.cluster.pid("edge-1"))
        self.worst = (0.0, "")

    def memory(self):
        return self._edge.memory_info().rss

    def _used(self):
        times = self._edge.cpu_times()
        return times.user + times.system

    async def send(self, body, *, signed):
        fields = [("Content-Type", body.content_type), *((name, value.decode()) for name, value in body.headers)]
        draft = Draft("POST", self._url, fields, body.content, plain=True)
        if signed:
            self._drafts.sign(draft, self._name)
        path = draft.url.removeprefix(self._system.cluster.http)
        hostile = asyncio.create_task(
            self._system.request("POST", path, data=io.BytesIO(body.content), headers=draft.headers)
        )
        while not hostile.done():
            before = self._used()
            other = await self._system.request("POST", f"/hook/{flows.NAMESPACE}.raw", data=b"{}")
            assert other.status == 202, (body.name, other)
            self.worst = max(self.worst, (self._used() - before, body.name))
        answer = await hostile
        assert answer.status < 500 or answer.status == 503, (body.name, answer)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", sorted(WEBHOOKS))
async def test_a_hostile_body_keeps_nobody_waiting(attacked, name):
    attack = Attack(attacked, name)
    before = attack.memory()
    for body in chosen(name):
        for signed in (False, True) if WEBHOOKS[name]["auth"] != "none" else (False,):
            await attack.send(body, signed=signed)
    assert attack.worst[0] <= CPU_SECONDS, attack.worst
    assert attack.memory() - before < GROWTH


@pytest.mark.asyncio(loop_scope="module")
async def test_no_runner_was_ended_for_it(attacked):
    last = await attacked.send(f"{flows.NAMESPACE}.{PARSED}", {})
    await attacked.ended(last.id)  # and so have those before it
    metrics = (await attacked.admin("/metrics")).body.decode()
    kills = [line for line in metrics.splitlines() if "kills_total{" in line]
    assert kills, metrics
    assert all(line.endswith(" 0.0") for line in kills), kills
