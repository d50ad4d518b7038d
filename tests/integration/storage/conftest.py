"""A SQLite storage in a directory of its own."""

import time

import apsw
import pytest
from support.replica import Replica

from flowhook.events import ids
from router.storage.limits import StorageLimits
from router.storage.model import NewEvent
from router.storage.storage import open_storage


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data" / "flowhook.db"


@pytest.fixture
async def open_limited(path):
    """Open the storage with limits of one's own."""
    opened = []

    async def open_limited(**limits):
        replica = Replica()
        storage = await open_storage(path, limits=StorageLimits(**limits), transaction_log=replica)
        opened.append((storage, replica))
        return storage

    yield open_limited
    for storage, replica in opened:
        await storage.close()
        replica.check(path)


@pytest.fixture
async def storage(open_limited):
    return await open_limited()


@pytest.fixture
def new_event():
    def make(payload=b"payload", **fields) -> NewEvent:
        defaults = {"event_id": ids.mint(7), "flow_id": "shop", "flow_revision": 1}
        return NewEvent(payload=payload, receive_time_ms=time.time_ns() // 1_000_000, **(defaults | fields))

    return make


@pytest.fixture
def stall(path):
    """Hold the database's write lock, so that the writer waits, until `release` is called on what this returns."""

    class Stall:
        def __enter__(self):
            self._connection = apsw.Connection(str(path))
            self._connection.set_busy_timeout(60_000)
            self._connection.execute("BEGIN IMMEDIATE")
            return self

        def __exit__(self, *_):
            self._connection.execute("ROLLBACK")
            self._connection.close()

    return Stall
