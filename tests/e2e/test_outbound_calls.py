"""What becomes of calls whose target is away, silent, unkind or none of a flow's business."""

from __future__ import annotations

import asyncio
import socket

import pytest
import pytest_asyncio
from support.systems import document

pytestmark = pytest.mark.e2e

ERRORS = "https://open-workflow-specification.org/spec/1.0.0/errors/"


def calling(name, url):
    """Return a flow that asks once: four retries take seconds, and show nothing more."""
    ask = f"- ask: {{call: http, with: {{method: get, endpoint: '{url}'}}}}"
    return document(name, do=ask, execution="{retry: {limit: {attempt: {count: 0}}}}")


async def shown_error(system, execution_id):
    """Return the error as `executions get --json` prints it."""
    await system.faulted(execution_id)
    [row] = (await system.flowhook("executions", "get", execution_id, "--json")).rows
    assert row["status"] == "faulted"
    return row["error"]


async def test_an_unreachable_target_is_a_communication_error(system):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        await system.apply(calling("unreachable", f"http://127.0.0.1:{nobody.getsockname()[1]}/"))
        error = await shown_error(system, (await system.send("unreachable", {})).id)
    assert error.keys() == {"type", "status", "title", "instance", "detail", "response"}
    assert error["response"] is None
    assert (error["type"], error["instance"]) == (ERRORS + "communication", "/do/0/ask")


@pytest.mark.parametrize("status", [404, 500])
async def test_a_status_of_failure_is_a_communication_error_with_that_status(system, status):
    await system.apply(calling(f"unkind-{status}", f"{system.outside.url}/status/{status}"))
    error = await system.faulted((await system.send(f"unkind-{status}", {})).id)
    assert (error.type, error.status) == (ERRORS + "communication", status)


@pytest_asyncio.fixture(loop_scope="session")
async def silent():
    """A server that accepts connections and never says a word."""

    async def listen(reader, writer):
        await reader.read()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()


async def test_a_target_that_hangs_is_a_timeout(system, silent):
    await system.apply(calling("hanging", silent))
    error = await shown_error(system, (await system.send("hanging", {})).id)
    assert (error["type"], error["status"], error["instance"]) == (ERRORS + "timeout", 408, "/do/0/ask")


async def test_private_addresses_are_refused_unless_allowed(guarded):
    await guarded.apply(
        calling("inward", guarded.outside.url),
        calling("inward-by-name", guarded.outside.url.replace("127.0.0.1", "localhost")),
        calling("metadata", "http://169.254.169.254/latest/meta-data/"),
    )
    for flow in ("inward", "inward-by-name", "metadata"):
        error = await guarded.faulted((await guarded.send(flow, {})).id)
        assert error.type == ERRORS + "communication"
        assert "the address is not allowed" in error.detail
        assert "FLOWHOOK_ALLOW_PRIVATE_ADDRESSES" in error.detail
    assert guarded.outside.received == []
