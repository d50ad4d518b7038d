"""A log that is full: new events are refused, accepted work goes on, and snapshots make room again."""

from __future__ import annotations

import asyncio
import os

import pytest
from support.replicated_routers import running_edge
from support.runners import attached
from support.systems import document

from flowhook.errors import UnavailableError
from flowhook.model import Status
from router.cluster import member
from router.storage.replicated import snapshots
from router.storage.replicated.snapshots import SnapshotStore

WORK = 5
BODY = os.urandom(5000).hex()


@pytest.fixture
def max_bytes():
    return "1M"


@pytest.fixture
def object_store(monkeypatch):
    """An event; until it is set, no snapshot can be stored. Everything that waits for minutes waits for less."""
    works, make = asyncio.Event(), SnapshotStore.make

    def make_or_fail(self, view):
        if not works.is_set():
            raise UnavailableError("no quorum", reason="LOG_UNAVAILABLE")
        return make(self, view)

    monkeypatch.setattr(SnapshotStore, "make", make_or_fail)
    monkeypatch.setattr(member, "SNAPSHOT_CHECK_SECONDS", 0.02)
    monkeypatch.setattr(snapshots, "RETRY_SECONDS", 0.02)
    monkeypatch.setattr(snapshots, "CROWDED_SECONDS", 0.1)
    return works


async def fill(post):
    """Send events until one is refused; return the IDs of the others, and the refusal."""
    ids = []
    while (answer := await post("demo", BODY))[0] == 202:
        ids.append(answer[2]["id"])
    return ids, answer


async def ingest_until_refused(client, ids):
    """Ingest events: the size of the log is an estimate until it is looked up, so there may be room for a few more."""
    while True:
        ids.append(await client.ingest("demo", b'"%s"' % BODY.encode()))


async def test_a_full_log_takes_no_events_lets_work_end_and_has_room_after_snapshots(routers, object_store):
    owner = routers.start("r1")
    await routers.owner()
    async with (
        owner.client() as client,
        attached(owner, credit=WORK) as runner,
        running_edge(routers) as post,
    ):
        await client.flows.apply([document("demo")])
        working = [await client.ingest("demo", b"{}") for _ in range(WORK)]
        assignments = await runner.assignments(WORK)
        waiting, (status, headers, problem) = await fill(post)
        assert (status, problem["reason"]) == (503, "STORAGE_FULL")
        assert int(headers["Retry-After"]) > 0
        with pytest.raises(UnavailableError) as raised:
            await ingest_until_refused(client, waiting)
        assert raised.value.reason == "STORAGE_FULL"
        assert owner.metric("flowhook_router_snapshots_failing_seconds", router="r1") > 0

        for assignment in assignments:
            await runner.checkpoint(assignment, 0, "/do/0/keep#0", b'"%s"' % BODY.encode())
            await runner.complete(assignment)
        for each in working:
            assert (await client.executions.get(each)).execution.status is Status.COMPLETED
        more, (status, *_) = await fill(post)
        waiting += more
        assert status == 503

        object_store.set()
        while (answer := await post("demo", BODY))[0] == 503:
            await asyncio.sleep(0.05)
        assert answer[0] == 202
        assert (await owner.shard()).first_position > 1
        assert owner.metric("flowhook_router_snapshots_failing_seconds", router="r1") == 0
        found = {execution.id async for execution in client.executions.list(flow_id="demo")}
        assert found == {*working, *waiting, answer[2]["id"]}
