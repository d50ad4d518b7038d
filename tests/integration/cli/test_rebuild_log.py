"""`flowhook cluster rebuild-log` on a NATS server."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest
from support.cluster_keys import KEY_SETTING, KEYS
from support.commands import flowhook
from support.nats_servers import nats_server
from support.replica import tables
from support.stored_executions import populate

from router.storage.commit_log import jetstream
from router.storage.limits import REPLICATED_LIMITS
from router.storage.replicated.recorder import LogRecorder
from router.storage.replicated.rewriting import FORMAT_FACT, LOG_FACT
from router.storage.replicated.snapshots import SnapshotStore
from router.storage.replicated.view import View
from router.storage.schema import FORMAT_VERSION
from router.storage.storage import open_storage


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr("cli.commands.cluster.HEARTBEAT_SECONDS", 0.1)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server.url(max_bytes="64M")


@pytest.fixture
def view(tmp_path, url):
    """The view of a router that was the owner, and is stopped."""
    view = View(tmp_path / "view")
    view.path.parent.mkdir()

    async def fill(replicated):
        recorder = LogRecorder(replicated.log, view.create(replicated.log.identity), lost=print, now_ms=lambda: 0)
        storage = await open_storage(
            view.path,
            limits=REPLICATED_LIMITS,
            transaction_log=recorder,
            objects=replicated.objects,
            durable=False,
        )
        await storage.own()
        await populate(storage, 9)
        await storage.close()

    with closing(jetstream.connect(url, KEYS, router="router-1")) as replicated:
        replicated.facts.agree(FORMAT_FACT, str(FORMAT_VERSION))
        replicated.facts.agree(LOG_FACT, replicated.log.identity)
        asyncio.run(fill(replicated))
    return view


def content(view):
    with view.connected() as connection:
        return {name: rows for name, rows in tables(connection).items() if name not in ("applied", "rejection")}


def test_a_log_that_was_deleted_is_made_anew_and_other_routers_restore_it(view, url, tmp_path):
    def rebuild():
        view_dir = view.path.parent
        return flowhook("cluster", "rebuild-log", "--view-dir", view_dir, FLOWHOOK_STORAGE=url, **KEY_SETTING)

    position, before = view.position().position, content(view)
    intact = rebuild()
    assert (intact.code, intact.out) == (1, "")
    assert "has everything that this view has" in intact.err

    jetstream.rebuild_log(url)  # deletes and creates it again
    done = rebuild()
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        f"the log is made anew, of the view at position {position}",
        "remove the views of the other routers before you start them",
    ]
    with closing(jetstream.connect(url, KEYS, router="router-2")) as replicated:
        identity = replicated.log.identity
        assert replicated.facts.agree(LOG_FACT, "") == identity
        other = View(tmp_path / "other")
        restored = SnapshotStore(replicated.objects, tmp_path / "work").restore_view(other, identity)
    assert restored == view.position()
    assert content(other) == content(view) == before
