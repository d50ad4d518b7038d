"""Views of an execution with a body of 10 MiB have no more of it sent by the router than they show."""

from __future__ import annotations

from contextlib import aclosing
from types import SimpleNamespace

import orjson
import pytest
import pytest_asyncio
from support.consoles import running_console
from support.relays import relayed
from support.routers import flow
from support.runners import attached
from support.uploads import uploaded

from flowhook import limits
from runner.tracing.tracer import ExecutionTracer

pytestmark = pytest.mark.asyncio(loop_scope="session")

LARGE = 10 * limits.MIB
FEW = 256 * limits.KIB
"""Bytes that the router may send for a view: 64 KiB of the body at most, the page, and what the process itself asks."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def relay(router):
    async with relayed(router.target) as relay:
        yield relay


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def viewer(router, relay):
    behind = SimpleNamespace(target=relay.target, settings=router.settings)
    async with (
        aclosing(ExecutionTracer()) as tracer,
        running_console(behind, tracer=tracer) as console,
        console.browser() as browser,
    ):
        await browser.log_in(router.token("view"))
        yield browser


async def execution_with(router, client, body):
    await client.flows.apply([flow("large"), flow("apart")])
    history = orjson.dumps([[1, "/do/0/keep", 1_800_000_000_100, 1_800_000_000_101, 1, ""]])
    async with attached(router, credit=1) as runner:
        execution_id = await client.ingest("large", body)
        [assignment] = await runner.assignments(1)
        await runner.settle({"lease": assignment.lease, "completed": {"output": b"{}"}, "history": history})
    return execution_id


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def large(router, client):
    """The ID of an execution of the flow `large`, with a body of 10 MiB."""
    return await execution_with(router, client, b'{"text":"%s"}' % (b"x" * LARGE))


async def moved(viewer, relay, path):
    before = relay.returned
    answer = await viewer.get(path)
    return answer, relay.returned - before


@pytest.mark.parametrize("view", ["journal", "timeline", "trace"])
async def test_a_view_moves_no_more_of_the_body_than_it_shows(viewer, relay, large, view):
    answer, count = await moved(viewer, relay, f"/executions/{large}?view={view}")
    assert (answer.status, count < FEW) == (200, True), count
    if view in ("timeline", "trace"):
        assert "computed from the body of the request, which has 10.0 MiB" in answer.text
        assert f'href="/executions/{large}?view={view}&amp;body=whole' in answer.text
        assert "/do/0/keep" in answer.text


async def test_the_whole_body_is_read_if_somebody_asks_for_it(viewer, relay, large):
    answer, count = await moved(viewer, relay, f"/executions/{large}?view=timeline&body=whole")
    assert (answer.status, count > LARGE) == (200, True)
    assert "computed from the body" not in answer.text  # computing it may be too costly
    assert f"/executions/{large}?view=trace&amp;body=whole&amp;task=1" in answer.text


async def test_the_api_reads_as_much_as_it_is_told(viewer, relay, large):
    answer, count = await moved(viewer, relay, f"/api/executions/{large}/trace?max_body={limits.MIB}")
    assert (answer.status, orjson.loads(answer.body)["reason"], count < FEW) == (400, "BODY_NOT_READ", True)


async def test_a_body_of_up_to_a_mebibyte_is_read_without_a_question(viewer, router, client):
    medium = await execution_with(router, client, b'{"text":"%s"}' % (b"x" * (limits.MIB - 11)))
    for view in ("timeline", "trace"):
        text = (await viewer.get(f"/executions/{medium}?view={view}")).text
        assert "… of " in text
        assert "computed from the body" not in text


@pytest.mark.usefixtures("large")  # it applies the flow
@pytest.mark.parametrize(("parts", "most"), [([3 * limits.MIB], FEW), ([9, 3 * limits.MIB], FEW + limits.MIB)])
async def test_of_a_body_that_is_stored_apart_only_small_attachments_are_read(viewer, relay, router, parts, most):
    named = [{"offset": sum(parts[:each]), "size": size, "sha256": bytes(32)} for each, size in enumerate(parts)]
    form = {"content_type": "multipart/form-data; boundary=x", "parts": named}
    execution_id = await uploaded(router, "apart", bytes(sum(parts)), **form)
    answer, count = await moved(viewer, relay, f"/api/executions/{execution_id}/trace")
    assert (orjson.loads(answer.body)["body_missing"], count < most) == (False, True), count


@pytest.mark.parametrize(
    "query", ["view=journal&body=whole", "body=whole", "view=trace&body=half", "view=trace&bodies=1"]
)
async def test_other_parameters_are_refused(viewer, large, query):
    assert (await viewer.get(f"/executions/{large}?{query}")).status == 400
