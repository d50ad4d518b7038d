"""The writer of an owner: what its database refuses is no doubt about the log."""

import apsw
import pytest
from support.fake_log import FakeLog

from router.storage.errors import StorageError
from router.storage.replicated.recorder import LogRecorder
from router.storage.replicated.view import View
from router.storage.storage import open_storage


async def test_a_transaction_that_could_not_begin_does_not_end_the_ownership(tmp_path):
    log, view, losses = FakeLog(), View(tmp_path), []
    recorder = LogRecorder(log, view.create(log.identity), lost=losses.append, now_ms=lambda: 0)
    storage = await open_storage(view.path, transaction_log=recorder, durable=False)
    try:
        await storage.own()
        storage._connection.set_busy_timeout(0)
        other = apsw.Connection(str(view.path))
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError):
            await storage.own()
        other.close()
        await storage.own()
    finally:
        await storage.close()
    assert losses == []
    assert log.tail().position == 2
