"""Clusters that several tests share, since one takes seconds to start; flows are told apart by name.

`system` is for tests that leave it as they found it, `guarded` and `restarted` for those that take processes of it
away, which come back. Modules whose tests need settings of their own have a fixture of their own; tests that end a
cluster start it.
"""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio
from support.systems import running_system

SHARED = {"system", "guarded", "restarted", "limited", "brittle", "large"}
"""Fixtures that live in the loop of the session, and so do the tests that use them."""


def answer_of_the_world(request):
    """What the stand-in answers: X as X does, a path with a status in it with that status."""
    if request.path == "/2/tweets":
        return 201, {"data": {"id": "1346889436626259968", "text": "as posted"}}
    if request.path.startswith("/status/"):
        return int(request.path.removeprefix("/status/")), {"said": "no"}
    return 200, {"ok": True}


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def system():
    long = dict.fromkeys(("header_timeout", "body_timeout", "idle_timeout"), 3600)
    options = {"answer": answer_of_the_world, "http_timeout": 10}
    async with running_system(**options, **long) as system:  # whose flows may call this machine, and nothing private
        yield system


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def guarded():
    """A cluster that calls public addresses only, and whose edge is quick to give up on the router."""
    async with running_system("--runners", "1", "--no-allow-loopback-addresses", router_timeout=0.5) as system:
        yield system


class GatedWorld:
    """A world that takes its time for `/ask`, is away at `/away`, and holds other calls until `open` is set."""

    def __init__(self):
        self.open = asyncio.Event()

    async def __call__(self, request):
        if request.path == "/away":
            return 503, {}
        # time to hear that the call began, and to be killed while it is under way
        await (asyncio.sleep(0.5) if request.path == "/ask" else self.open.wait())
        return 200, {"ok": True}


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def restarted():
    """A cluster whose runner and router tests kill, with attempts enough for that."""
    gate = GatedWorld()
    async with running_system("--allow-private-addresses", "--runners", "1", answer=gate, max_attempts=50) as system:
        await system.secrets(outside=system.outside.url)
        system.gate = gate
        yield system


def pytest_collection_modifyitems(items):
    """Called with the whole suite's tests, of which those of other folders may have arguments of the same names."""
    for item in items:
        if item.nodeid.startswith("tests/e2e/") and SHARED.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
