"""Reads are limited in time, and hold their thread until they are done."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest
from support.patience import PATIENCE

from flowhook.errors import InvalidError
from flowhook.sharing import INTERNAL, Principal, current_principal
from flowhook.sharing.table import RouterLimits
from router.storage.readers import Readers
from router.storage.schema import connect_writer

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
COUNT = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 200000) SELECT count(*) FROM n"
TOKEN = Principal("token", "a")


@pytest.fixture
async def readers(tmp_path):
    path = tmp_path / "flowhook.db"
    connect_writer(path, durable=False).close()
    readers = Readers(path, replace(RouterLimits().queries, total=1), max_seconds=0.0)
    yield readers
    await readers.close()


def query(sql):
    return lambda connection: connection.execute(sql).get


async def test_a_query_of_a_caller_that_takes_too_long_is_ended(readers):
    current_principal.set(TOKEN)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(InvalidError) as caught:
            await readers.run(query(ENDLESS))
    assert caught.value.reason == "QUERY_TOO_LONG"
    assert await readers.run(query("SELECT 1")) == 1


async def test_a_read_on_which_the_service_depends_takes_as_long_as_it_takes(readers):
    current_principal.set(INTERNAL)
    assert await readers.run(query(COUNT)) == 200_000


async def test_a_read_with_a_limit_of_its_own_is_ended_whoever_asks(readers):
    current_principal.set(INTERNAL)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(InvalidError, match=r"takes more than 0\.01 s"):
            await readers.run(query(ENDLESS), max_seconds=0.01)


async def test_a_read_that_nobody_waits_for_any_more_holds_its_thread(readers):
    current_principal.set(TOKEN)
    begun, end = threading.Event(), threading.Event()

    def read(_connection):
        begun.set()
        end.wait(PATIENCE)

    given_up = asyncio.create_task(readers.run(read))
    await asyncio.to_thread(begun.wait, PATIENCE)
    given_up.cancel()
    following = asyncio.create_task(readers.run(query("SELECT 1")))
    await asyncio.sleep(0.05)
    assert not given_up.done()
    end.set()
    assert await following == 1
    with pytest.raises(asyncio.CancelledError):
        await given_up
