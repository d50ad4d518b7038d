"""Measures what grows with stored executions: the same calls of the storage beside none and beside many of them.

Run: .venv/bin/python -m bench.growth [--executions 4000000] [--directory DIR]

The directory needs 1.4 KB of free space for each execution. The database is filled by SQL, and removed at the end.
Writes are measured by CPU time an execution, in turns; the others by time, with what they read in the kernel's cache.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench.log import log
from bench.parked import running_router
from flowhook.events import ids
from flowhook.model import Status
from flowhook.model.execution_filter import ALL, ExecutionFilter
from router.storage.model import Ended, NewEvent
from router.storage.schema import connect_writer
from router.storage.storage import Storage, open_storage

FEW: Final = 20_000
"""Executions beside which lists are "beside none": less would not fill their pages."""
BATCH: Final = 48
BATCHES: Final = 200  # that one round of writes appends and ends
ROUNDS: Final = 5
STEP: Final = 100_000
PAGE: Final = 50
DAY_MS: Final = 86_400_000
DAYS: Final = 29  # over which the stored executions were received
PAYLOAD: Final = bytes(range(256)) * 4

# one in two in one flow; 1 % faulted, 0.1 % cancelled, 0.5 % in their third attempt, 10 % with a search attribute
_FILL: Final = """
WITH RECURSIVE n(seq) AS (SELECT :first UNION ALL SELECT seq + 1 FROM n WHERE seq < :last),
  e AS (SELECT seq, CAST(:start + seq * :pace AS INTEGER) AS ms FROM n)
INSERT INTO execution
  (seq, event_id, flow, flow_revision, status, attempts, receive_time_ms, end_time_ms, error)
  SELECT seq, mint(ms), CASE WHEN seq % 2 THEN 1 ELSE 2 + seq * 7919 % 998 END, 1,
    CASE WHEN seq % 100 = 7 THEN 7 WHEN seq % 1000 = 13 THEN 6 ELSE 8 END,
    CASE WHEN seq % 200 = 5 THEN 3 ELSE 1 END, ms, ms + 20,
    CASE WHEN seq % 100 = 7 THEN CAST('{"type":"https://example.com/errors/away","status":503,"title":"Away"}' AS BLOB)
    END FROM e;
INSERT INTO event (seq, payload) SELECT seq, :payload FROM execution WHERE seq BETWEEN :first AND :last;
INSERT INTO outcome (seq, output, attempt) SELECT seq, CAST('{"ok":true}' AS BLOB), receive_time_ms || ' runner-1'
  FROM execution WHERE seq BETWEEN :first AND :last;
INSERT INTO attempt (seq, position, number, runner, assign_time_ms, end_time_ms, reason, detail, charged)
  SELECT seq, column1, column1, 'runner-1', receive_time_ms, end_time_ms, 'runner_lost', '', 1
  FROM execution, (VALUES (1), (2)) WHERE seq BETWEEN :first AND :last AND attempts = 3;
INSERT INTO search_attribute (seq, name, value) SELECT seq, 'order', 'o-' || seq
  FROM execution WHERE seq BETWEEN :first AND :last AND seq % 10 = 0;
"""


def fill(path: Path, count: int) -> None:
    """Create a database with ended executions, at a pace of `DAYS`."""
    start, pace = time.time_ns() // 1_000_000 - DAYS * DAY_MS, DAYS * DAY_MS / count
    connection = connect_writer(path, durable=False)
    connection.execute("PRAGMA journal_mode = OFF; PRAGMA cache_size = -500000").fetchall()
    connection.create_scalar_function("mint", lambda ms: ids.mint(7, now_ms=ms), 1)
    connection.executemany("INSERT INTO flow_key (flow_id) VALUES (?)", [(f"flow-{key}",) for key in range(1, 1001)])
    for first in range(1, count + 1, STEP):
        last = min(count, first + STEP - 1)
        given = {"first": first, "last": last, "start": start, "pace": pace, "payload": PAYLOAD}
        with connection:
            connection.execute(_FILL, given)
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.close()


def lists(count: int) -> dict[str, ExecutionFilter]:
    """Return the conditions to list by."""
    now_ms = time.time_ns() // 1_000_000
    sparse = f"flow-{2 + 2 * 7919 % 998}"
    return {
        "all": ALL,
        "of a flow with half of them": ExecutionFilter(flow_id="flow-1"),
        "of a flow with few": ExecutionFilter(flow_id=sparse),
        "completed": ExecutionFilter(statuses=(Status.COMPLETED,)),
        "faulted": ExecutionFilter(statuses=(Status.FAULTED,)),
        "faulted, of a flow": ExecutionFilter(flow_id="flow-1", statuses=(Status.FAULTED,)),
        "pending": ExecutionFilter(statuses=(Status.PENDING,)),
        "pending, of a flow": ExecutionFilter(flow_id="flow-1", statuses=(Status.PENDING,)),
        "received in an hour": ExecutionFilter(
            receive_from_ms=now_ms - 10 * DAY_MS, receive_until_ms=now_ms - 10 * DAY_MS + DAY_MS // 24
        ),
        "unresolved": ExecutionFilter(unresolved=True, statuses=(Status.FAULTED,)),
        "two attempts at least": ExecutionFilter(min_attempts=2),
        "four attempts at least (none)": ExecutionFilter(min_attempts=4),
        "by search attribute": ExecutionFilter(attributes=(("order", f"o-{count // 20 * 10}"),)),
    }


async def _milliseconds(call: Callable[[], Awaitable[Any]]) -> float:
    """Return the least time of some calls."""
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await call()
        took.append(time.perf_counter() - began)
    return 1e3 * min(took)


@contextmanager
def _cpu(figures: dict[str, float], name: str, count: int) -> Iterator[None]:
    began = time.process_time_ns()
    yield
    took = (time.process_time_ns() - began) / 1e3 / count
    figures[name] = min(took, figures.get(name, took))


async def write(storage: Storage, figures: dict[str, float]) -> None:
    """Append and end executions, and note the CPU time of each."""
    log_, state = storage.log, await storage.own()
    batches = []
    for _ in range(BATCHES):
        now_ms = time.time_ns() // 1_000_000
        minted = [ids.mint(7, now_ms=now_ms) for _ in range(BATCH)]
        batches.append([NewEvent(each, "flow-1", 1, now_ms, PAYLOAD) for each in minted])
    with _cpu(figures, "accept, µs", BATCH * BATCHES):
        accepted = [await log_.append(batch) for batch in batches]
    with _cpu(figures, "end, µs", BATCH * BATCHES):
        for some in accepted:
            now_ms = time.time_ns() // 1_000_000
            ended = [
                Ended(each.seq, Status.COMPLETED, now_ms, 1, b"{}", runner="r", assign_time_ms=now_ms) for each in some
            ]
            await state.write(ended)


async def retain(storage: Storage, figures: dict[str, float]) -> None:
    """Remove the oldest executions, and note the CPU time of each, and of a sweep that finds none."""
    state = await storage.own()
    before_ms = time.time_ns() // 1_000_000 - DAYS * DAY_MS // 2
    with _cpu(figures, "remove one past retention, µs", 1000):
        assert await state.expire(ended_before_ms=before_ms, limit=1000) == 1000  # noqa: S101 - checks itself
    figures["sweep that finds nothing, ms"] = await _milliseconds(lambda: state.expire(ended_before_ms=1))


async def read(storage: Storage, count: int, figures: dict[str, float]) -> None:
    """Note the times of lists and of looks at single executions."""
    state = await storage.own()
    for name, wanted in lists(count).items():
        figures[f"list: {name}, ms"] = await _milliseconds(lambda: state.list_executions(wanted, limit=PAGE))  # noqa: B023
    faulted = ExecutionFilter(statuses=(Status.FAULTED,))
    figures["count faulted, at most 1,000, ms"] = await _milliseconds(
        lambda: state.count_executions(faulted, limit=1000)
    )
    (record,) = (await state.records([count // 2])).values()
    figures["find one, ms"] = await _milliseconds(lambda: state.find(record.id))
    figures["content of one, ms"] = await _milliseconds(lambda: state.content(record.seq))


async def restart(path: Path, figures: dict[str, float]) -> None:
    """Note how long a router takes to serve."""
    took = []
    for _ in range(3):
        began = time.perf_counter()
        async with running_router(path.parent):
            took.append(time.perf_counter() - began)
    figures["restart, killed before, s"] = min(took)


async def measure(few: Path, many: Path, count: int) -> list[dict[str, float]]:
    """Return the figures of both databases."""
    found: list[dict[str, float]] = [{}, {}]
    both = [(few, FEW, found[0]), (many, count, found[1])]
    for path, stored, figures in both:
        storage = await open_storage(path)
        await read(storage, stored, figures)
        await storage.close()
    for _ in range(ROUNDS):
        for path, _, figures in both:
            storage = await open_storage(path)
            await write(storage, figures)
            await retain(storage, figures)
            await storage.close()
    for path, _, figures in both:
        await restart(path, figures)
    return found


def main() -> None:
    """Measure, and print the figures beside one another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executions", type=int, default=4_000_000)
    parser.add_argument("--directory", default=".")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory, prefix=".bench-") as directory:
        few, many = (Path(directory, name, "flowhook.db") for name in ("few", "many"))
        for path, count in ((few, FEW), (many, options.executions)):
            path.parent.mkdir(mode=0o700)
            fill(path, count)
        log(f"filled: {many.stat().st_size >> 20} MiB")
        figures = asyncio.run(measure(few, many, options.executions))
    print(f"| | beside {FEW:,} | beside {options.executions:,} | ratio |\n|---|---|---|---|")
    for name, value in figures[0].items():
        other = figures[1][name]
        print(f"| {name} | {value:.2f} | {other:.2f} | {other / value:.2f} |")


if __name__ == "__main__":
    main()
