"""State of the log for operators: many who ask at once take one thread."""

import asyncio
import threading

from router.cluster.member import Member


async def test_reports_that_are_asked_for_at_once_are_one(routers, monkeypatch):
    router = routers.start("r1")
    await routers.owner()
    report, asked, answer = Member._report, [], threading.Event()

    def slow(member):
        asked.append(member)
        answer.wait()
        return report(member)

    monkeypatch.setattr(Member, "_report", slow)
    shards = [asyncio.create_task(router.shard()) for _ in range(20)]
    try:
        while not asked:
            await asyncio.sleep(0.01)
    finally:
        answer.set()
    await asyncio.gather(*shards)
    assert len(asked) < 20
