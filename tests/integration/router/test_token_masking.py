"""A token that only views shows no token of a one-time URL: with it, its owner could decide for the flow."""

from __future__ import annotations

import orjson
import pytest
from support.routers import flow
from support.runners import attached

from flowhook import limits
from flowhook.client import channel
from flowhook.model.audit import audit_reason
from flowhook.model.execution_filter import ExecutionFilter
from flowhook.security import callback_tokens
from flowhook.v1 import rejection_service_pb2 as rejections
from flowhook.v1 import runner_service_pb2 as pb
from flowhook.v1.envelope_pb2 import Event
from flowhook.v1.rejection_service_pb2_grpc import RejectionServiceStub

ID = "evt_01m8746v7wemm95kbphkypt3c6"
TOKEN = callback_tokens.issue(bytes(32), ID, "approval", 0)
URL = f"https://example.com/hook/asking/approval/{TOKEN}"
HIDDEN = "*" * len(TOKEN)


@pytest.fixture
async def asked(router, client):
    """An execution that got a one-time URL, journaled it, and failed with it."""
    await client.flows.apply([flow("asking")])
    async with attached(router, credit=100) as runner:
        execution_id = await client.ingest("asking", {"decide_at": URL})
        assigned = {}
        while execution_id not in assigned:
            assigned |= {Event.FromString(each.event).id: each for each in await runner.assignments(1)}
        await runner.checkpoint(assigned[execution_id], 0, "/do/0/keep#0", orjson.dumps({"text": f"\n{TOKEN}"}))
        error = {"type": "communication", "status": 500, "title": "No", "detail": f"no answer from {URL}"}
        await runner.settle(pb.Outcome(lease=assigned[execution_id].lease, faulted=error))
    return execution_id


async def read(client, execution_id):
    chunks = [chunk async for chunk in client.executions.body(execution_id)]
    return b"".join(chunks)


async def test_a_viewer_gets_no_token_of_a_one_time_url(router, client, asked):
    async with router.client("view") as view:
        detail = await view.executions.get(asked)
        assert orjson.loads(detail.event.body) == {"decide_at": URL.replace(TOKEN, HIDDEN)}
        assert orjson.loads(detail.journal[0].output) == {"text": "\n•••"}
        assert detail.execution.error.detail == f"no answer from {URL.replace(TOKEN, '•••')}"
        assert orjson.loads(await read(view, asked)) == {"decide_at": URL.replace(TOKEN, HIDDEN)}
        (listed,) = [each async for each in view.executions.list()]
        assert "•••" in listed.error.detail
        page = await view.executions.scan(ExecutionFilter())
        assert TOKEN.encode() not in page.items[0].event
        assert HIDDEN.encode() in page.items[0].event


async def test_an_operator_gets_executions_as_they_are(client, asked):
    detail = await client.executions.get(asked)
    assert orjson.loads(detail.journal[0].output) == {"text": f"\n{TOKEN}"}
    assert TOKEN in detail.execution.error.detail
    assert orjson.loads(await read(client, asked)) == orjson.loads(detail.event.body) == {"decide_at": URL}


@pytest.mark.parametrize("cut", [0, 1, 30, len(TOKEN) - 1, len(TOKEN)])
async def test_a_token_is_masked_in_a_body_where_a_chunk_ends(router, client, cut):
    await client.flows.apply([flow("asking")])
    before = b"\xff." * (limits.CHUNK_BYTES // 2)
    before = before[: len(before) - cut]
    execution_id = await client.ingest("asking", before + TOKEN.encode() + b" " + before, "application/octet-stream")
    async with router.client("view") as view:
        assert await read(view, execution_id) == before + HIDDEN.encode() + b" " + before


async def test_a_viewer_gets_no_beginning_of_a_token_at_the_end_of_a_body_that_it_has_cut(router, client):
    await client.flows.apply([flow("asking")])
    body = f"{TOKEN}{TOKEN}".encode()
    execution_id = await client.ingest("asking", body, "application/octet-stream")
    mac = TOKEN.rpartition(".")[2].encode()
    async with router.client("view") as view:
        for size in range(len(body) + 1):
            shown = (await view.executions.get(execution_id, max_body_bytes=size)).event.body
            assert (len(shown), mac[:1] in shown.replace(ID[4:].encode(), b"")) == (size, False)
    cut = await client.executions.get(execution_id, max_body_bytes=len(TOKEN) - 1)
    assert cut.event.body == TOKEN[:-1].encode()


async def test_a_viewer_gets_no_token_that_an_operator_gave_as_a_reason(router, client):
    with audit_reason(f"settled at {URL}"):
        await client.flows.apply([flow("asking")])
    [entry] = [each async for each in client.audit.list()]
    assert entry.reason == f"settled at {URL}"
    async with router.client("view") as view:
        [entry] = [each async for each in view.audit.list()]
    assert entry.reason == f"settled at {URL.replace(TOKEN, '•••')}"


async def test_a_viewer_gets_no_token_that_stands_in_a_refused_request(router, client):
    body = f'{{"decide_at": "{URL}"}}'.encode()
    refused = rejections.Rejection(
        id=f"rej_{ID[4:]}", flow_id="signed", reason="CREDENTIALS_WRONG", body=body, body_size=len(body)
    )
    async with channel.connect(router.target, router.token("edge")) as connection:
        await RejectionServiceStub(connection).ReportRejections(
            rejections.ReportRejectionsRequest(rejections=[refused])
        )
    assert (await client.rejections.get(refused.id)).body == body
    async with router.client("view") as view:
        assert (await view.rejections.get(refused.id)).body == body.replace(TOKEN.encode(), HIDDEN.encode())
