"""Snapshots, large payloads and bodies in the object store of a NATS server."""

import shutil

import pytest
from support.body_seats import seat_of
from support.cluster_keys import KEYS
from support.nats_servers import nats_server

from flowhook import limits
from flowhook.model import Status
from router.storage.commit_log import jetstream
from router.storage.limits import REPLICATED_LIMITS
from router.storage.model import Ended
from router.storage.replicated.recorder import LogRecorder
from router.storage.replicated.snapshots import SnapshotStore
from router.storage.replicated.view import View
from router.storage.storage import open_storage

LARGE = b"x" * (limits.REPLICATED_INLINE_BODY_BYTES + 1)


@pytest.fixture
def replicated(tmp_path):
    with nats_server(tmp_path / "nats") as server:
        connected = jetstream.connect(server.url(max_bytes="64M"), KEYS, router="router-1")
        yield connected
        connected.close()


@pytest.fixture
def open_view(tmp_path, replicated):
    """Open storage in a directory, with the position that its view has."""

    async def open_view(name, position=None):
        view = View(tmp_path / name)
        view.path.parent.mkdir(exist_ok=True)
        position = position or view.create(replicated.log.identity)
        recorder = LogRecorder(replicated.log, position, lost=print, now_ms=lambda: 0)
        storage = await open_storage(
            view.path, limits=REPLICATED_LIMITS, transaction_log=recorder, objects=replicated.objects, durable=False
        )
        return view, storage

    return open_view


async def test_a_router_with_an_empty_disk_continues_with_a_snapshot_and_the_objects(
    replicated, open_view, new_event, tmp_path
):
    view, storage = await open_view("first")
    upload = await storage.bodies.begin("shop", None, seat_of(None))
    await upload.write(b"body" * 1000)
    body = await upload.finish()
    await storage.log.append([new_event(LARGE), new_event(body=body.id), new_event(LARGE)])
    snapshots = SnapshotStore(replicated.objects, tmp_path / "snapshots")
    assert snapshots.make(view.path) == (1, None)
    await storage.close()
    shutil.rmtree(view.path.parent)

    second = View(tmp_path / "second")
    second.path.parent.mkdir()
    position = snapshots.restore_view(second, replicated.log.identity)
    _, storage = await open_view("second", position)
    state = await storage.own()
    assert [work.payload for work in (await state.work([1, 3])).values()] == [LARGE, LARGE]
    reader = await storage.bodies.open(body.id)
    assert await reader.read(0, reader.size) == b"body" * 1000
    reader.close()

    assert await storage._sweep.sweep(age_seconds=0) == 0
    await state.write([Ended(seq, Status.COMPLETED, 1, 1) for seq in (1, 2)])
    assert await state.expire(ended_before_ms=2) == 2
    assert len(replicated.objects.names("blob/")) == 1
    assert replicated.objects.names("body/") == []
    orphan = tmp_path / "orphan"
    orphan.write_bytes(b"x")
    replicated.objects.put("blob/0/ab/evt_orphan.1234", orphan)
    assert await storage._sweep.sweep(age_seconds=0) == 1
    assert (await state.work([3]))[3].payload == LARGE
    assert snapshots.make(second.path)[1] == 1
    await storage.close()
