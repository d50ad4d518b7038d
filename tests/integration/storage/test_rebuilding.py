"""A lost log is made anew of a view: complete, followed by other routers, and refused where records would be lost."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from support.directory_objects import DirectoryObjects
from support.fake_log import FakeLog
from support.replica import tables
from support.stored_executions import LARGE, populate

from flowhook.errors import ConflictError, NotFoundError, UnavailableError
from flowhook.events import ids
from router.storage.limits import REPLICATED_LIMITS
from router.storage.model import NewEvent
from router.storage.replicated.follower import Follower
from router.storage.replicated.recorder import LogRecorder
from router.storage.replicated.rewriting import LogRebuilding
from router.storage.replicated.snapshots import SnapshotStore
from router.storage.replicated.view import View
from router.storage.schema import FORMAT_VERSION
from router.storage.storage import open_storage


class Heartbeats:
    def __init__(self):
        self.routers = {}

    def seen(self):
        return dict.fromkeys(self.routers, time.monotonic())


class Facts(dict):
    def replace(self, name, value):
        self[name] = value


@pytest.fixture
def replicated(tmp_path):
    objects = DirectoryObjects(tmp_path / "objects")
    return SimpleNamespace(log=FakeLog("lost"), objects=objects, heartbeats=Heartbeats(), facts=Facts(), new=[])


@pytest.fixture
def rebuilding(replicated):
    def renew():
        replicated.new.append(FakeLog(f"new-{len(replicated.new)}"))
        return replicated.new[-1].identity

    return LogRebuilding(replicated, renew, heartbeat_seconds=0)


async def owning(view, position, log, objects):
    """Open storage as the owner of the shard."""
    recorder = LogRecorder(log, position, lost=print, now_ms=lambda: 0)
    storage = await open_storage(
        view.path, limits=REPLICATED_LIMITS, transaction_log=recorder, objects=objects, durable=False
    )
    return storage, await storage.own()


@pytest.fixture
async def view(replicated, tmp_path):
    """The view of a router that was the owner, and is stopped."""
    view = View(tmp_path / "router-1")
    view.path.parent.mkdir()
    storage, _ = await owning(view, view.create(replicated.log.identity), replicated.log, replicated.objects)
    await populate(storage, 30)
    await storage.close()
    return view


def content(view):
    with view.connected() as connection:
        found = tables(connection)
    return {name: rows for name, rows in found.items() if name not in ("applied", "rejection")}


async def test_everything_is_in_the_new_log_and_other_routers_follow_it(replicated, rebuilding, view, tmp_path):
    before, end = content(view), view.position()
    SnapshotStore(replicated.objects, tmp_path / "work").make(view.path)  # of the lost log
    replicated.log = FakeLog("recreated")
    result = LogRebuilding(replicated, rebuilding._renew, heartbeat_seconds=0).rebuild(view)

    (new,) = replicated.new
    assert replicated.facts == {"database_format": str(FORMAT_VERSION), "log_identity": new.identity}
    assert (result.position, result.uploaded, result.missing) == (end.position, 0, 0)
    assert replicated.objects.names("snap/") == ["snap/0/00000000000000000000.zst"]
    other = View(tmp_path / "router-2")
    position = SnapshotStore(replicated.objects, tmp_path / "work").restore_view(other, new.identity)
    assert content(other) == content(view) == before

    storage, state = await owning(view, view.position(), new, replicated.objects)
    assert state.epoch > end.epoch
    await storage.log.append([NewEvent(ids.mint(1), "shop", 1, 1_800_000_000_000, LARGE)])
    await storage.close()
    Follower(new, other, position).catch_up(new.tail().position)
    assert content(other) == content(view) != before


async def test_a_log_that_lacks_its_last_records_is_made_anew(replicated, rebuilding, view):
    position = view.position()
    replicated.log._records.pop()
    assert rebuilding.rebuild(view).position == position.position
    assert view.position().log == "new-0"


async def test_payloads_that_the_object_store_lost_are_uploaded_again(replicated, rebuilding, view):
    replicated.log._records.pop()
    stored = replicated.objects.names("blob/")
    for name in stored:
        replicated.objects.delete(name)
    (view.path.parent / "blobs" / stored[0].removeprefix("blob/0/")).unlink()

    result = rebuilding.rebuild(view)
    assert (result.uploaded, result.missing) == (len(stored) - 1, 1)
    assert len(replicated.objects.names("blob/")) == len(stored) - 1


async def test_what_is_intact_is_not_rebuilt(replicated, rebuilding, view):
    with pytest.raises(ConflictError) as caught:
        rebuilding.rebuild(view, discard=True)
    assert (caught.value.reason, replicated.new) == ("LOG_INTACT", [])


async def test_records_of_a_log_that_took_its_place_are_only_deleted_if_it_is_asked_for(replicated, rebuilding, view):
    replicated.log = FakeLog("other")
    replicated.log.append(0, "1:a:1:0", b"record")
    rebuilding = LogRebuilding(replicated, rebuilding._renew, heartbeat_seconds=0)
    with pytest.raises(ConflictError, match="has 1 records") as caught:
        rebuilding.rebuild(view)
    assert (caught.value.reason, replicated.new) == ("LOG_NOT_EMPTY", [])
    rebuilding.rebuild(view, discard=True)
    assert len(replicated.new) == 1


async def test_a_running_router_refuses_it(replicated, rebuilding, view):
    replicated.heartbeats.routers = {"router-2"}
    with pytest.raises(ConflictError, match="router-2") as caught:
        rebuilding.rebuild(view)
    assert (caught.value.reason, replicated.new) == ("ROUTER_RUNNING", [])


async def test_a_view_that_a_power_loss_may_have_torn_is_not_used(replicated, rebuilding, view, monkeypatch):
    monkeypatch.setattr("router.storage.replicated.view.boot_id", lambda: "another")
    with pytest.raises(NotFoundError) as caught:
        rebuilding.rebuild(view)
    assert (caught.value.reason, replicated.new) == ("VIEW_UNUSABLE", [])


async def test_an_interrupted_rebuilding_can_be_repeated(replicated, rebuilding, view):
    before = content(view)
    replicated.log._records.pop()

    def renew_and_lose_the_store():
        replicated.objects.away = True
        return rebuilding._renew()

    with pytest.raises(UnavailableError):
        LogRebuilding(replicated, renew_and_lose_the_store, heartbeat_seconds=0).rebuild(view)
    assert replicated.facts == {}  # so that no router starts with an empty log
    replicated.objects.away = False
    replicated.log = replicated.new[-1]  # what a second command finds
    LogRebuilding(replicated, rebuilding._renew, heartbeat_seconds=0).rebuild(view)

    assert content(view) == before
    assert view.position().log == replicated.new[-1].identity
    assert not (view.path.parent / ".rebuilding").exists()
