"""Readers of ends: each takes those that it awaits."""

from __future__ import annotations

import asyncio

from flowhook.model import Status
from router.dispatch.observers import EndReader
from router.storage.model import Ended


def end(seq):
    return Ended(seq, Status.COMPLETED, 1, 1)


async def test_a_reader_takes_the_ends_that_it_awaits_each_once():
    changed = asyncio.Event()
    reader = EndReader(changed)
    for seq in (1, 2, 3):
        reader.await_end(seq)
    reader.forget(3)
    reader.put([end(2), end(3), end(4)])
    assert changed.is_set()
    assert reader.collect() == [end(2)]
    reader.put([end(2)])
    assert reader.collect() == []
    reader.put([end(1)])
    assert reader.collect() == [end(1)]


async def test_a_reader_is_not_woken_by_ends_of_others():
    changed = asyncio.Event()
    reader = EndReader(changed)
    reader.await_end(1)
    reader.put([end(2)])
    assert not changed.is_set()
