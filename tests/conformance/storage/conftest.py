"""The storage suite's backends, and what each is excused from.

A check is a test function of this directory; it runs once for each backend. A new backend is one more entry in
`BACKENDS`. What it can't do is waived in `WAIVERS`, with a reason; a waived check has to fail, and a waiver has to name
a check, else the run fails: nothing is excused that needs no excuse.
"""

import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from support.directory_objects import DirectoryObjects
from support.fake_log import FakeLog
from support.replica import Replica, tables

from flowhook.events import ids
from flowhook.model import Status
from router.storage.event_log import EventLog
from router.storage.limits import DEFAULT_LIMITS, StorageLimits
from router.storage.model import Ended, NewEvent, NewInboundEvent
from router.storage.registry import FlowDraft, Registry
from router.storage.replicated.follower import Follower
from router.storage.replicated.recorder import LogRecorder
from router.storage.replicated.view import LOCAL_TABLES, View
from router.storage.shard_state import ShardState
from router.storage.storage import Storage, open_storage


class Backend(NamedTuple):
    """How to open a backend whose data lies in a directory, with limits; opened again, it finds what was stored.

    `check` asserts after a test, when it is closed, what holds whatever was done with it.
    """

    name: str
    open: Callable[[Path, StorageLimits], Awaitable[Storage]]
    check: Callable[[], None]


class Waiver(NamedTuple):
    """Excuses a backend from one check."""

    backend: str
    file: str
    check: str
    reason: str


class ReplicatedSqlite:
    """SQLite whose transactions are applied to a replica as well, which has to be equal whenever it is closed."""

    def __init__(self) -> None:
        self._replicas: list[tuple[Replica, Path]] = []

    async def open(self, directory: Path, limits: StorageLimits) -> Storage:
        self.check()
        replica, path = Replica(), directory / "flowhook.db"
        self._replicas.append((replica, path))
        return await open_storage(path, limits=limits, transaction_log=replica)

    def check(self) -> None:
        while self._replicas:
            replica, path = self._replicas.pop()
            replica.check(path)


class ForgetfulObjects(DirectoryObjects):
    """An object store whose clients lose the file they have stored, so that each read has to fetch it."""

    def put(self, name, path):
        super().put(name, path)
        path.unlink()


class SqliteUnderLog:
    """The owner's view under a log in memory; a follower's view made from it has to be equal whenever it is closed."""

    RECORD_BYTES = 4096
    """Small, so that larger transactions are cut into parts."""

    def __init__(self) -> None:
        self._log: FakeLog | None = None
        self._directory: Path | None = None

    async def open(self, directory: Path, limits: StorageLimits) -> Storage:
        if self._log is None:
            self._log, self._directory = FakeLog(max_record_bytes=self.RECORD_BYTES), directory
        view, log = View(directory), self._log
        position = view.position() or view.create(log.identity)
        recorder = LogRecorder(log, position, lost=_fail, now_ms=lambda: 0)
        objects = ForgetfulObjects(directory / "objects")
        return await open_storage(view.path, limits=limits, transaction_log=recorder, objects=objects, durable=False)

    def check(self) -> None:
        log, directory = self._log, self._directory
        if log is None or directory is None:
            return
        self._log = self._directory = None
        original, copy = View(directory), View(directory / "follower")
        copy.path.parent.mkdir()
        follower = Follower(log, copy, copy.create(log.identity))
        follower.catch_up(log.tail().position)
        with original.connected() as ours, copy.connected() as theirs:
            expected, found = tables(ours), tables(theirs)
        for name in LOCAL_TABLES:
            del expected[name], found[name]
        assert found == expected


def _fail(error: Exception) -> None:
    raise error


SQLITE, UNDER_LOG = ReplicatedSqlite(), SqliteUnderLog()
BACKENDS = [Backend("sqlite", SQLITE.open, SQLITE.check), Backend("replicated", UNDER_LOG.open, UNDER_LOG.check)]
WAIVERS = [
    Waiver(
        "replicated",
        "test_bodies.py",
        "test_what_was_not_named_is_gone_after_a_restart",
        "its object remains until the owner's daily sweep (tests/integration/storage/test_blob_cache.py)",
    )
]


def pytest_generate_tests(metafunc):
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", BACKENDS, ids=[backend.name for backend in BACKENDS], indirect=True)


def pytest_collection_modifyitems(items):
    waivers = {(waiver.backend, waiver.file, waiver.check): waiver for waiver in WAIVERS}
    files = set()
    for item in items:
        callspec = getattr(item, "callspec", None)
        if item.path.parent != Path(__file__).parent or callspec is None or "backend" not in callspec.params:
            continue
        files.add(item.path.name)
        waiver = waivers.pop((callspec.params["backend"].name, item.path.name, item.originalname), None)
        if waiver:
            item.add_marker(pytest.mark.xfail(reason=waiver.reason, strict=True))
    stale = [waiver for (_, file, _), waiver in waivers.items() if file in files]
    if stale:
        raise pytest.UsageError(f"waivers that name no check: {stale}")


class Cluster:
    """Storage under test, with shorthands. `restart` closes it and opens it again, as a restarted router would."""

    def __init__(self, backend: Backend, directory: Path) -> None:
        self._backend = backend
        self._directory = directory
        self.storage: Storage
        self.state: ShardState

    async def start(self, limits: StorageLimits = DEFAULT_LIMITS) -> None:
        self.storage = await self._backend.open(self._directory, limits)
        self.state = await self.storage.own()

    async def restart(self, limits: StorageLimits = DEFAULT_LIMITS) -> None:
        await self.storage.close()
        await self.start(limits)

    @property
    def log(self) -> EventLog:
        return self.storage.log

    @property
    def registry(self) -> Registry:
        return self.storage.registry

    async def append(self, *events: NewEvent) -> list[int]:
        return [appended.seq for appended in await self.log.append(events)]

    async def end(self, *seqs: int, status: Status = Status.COMPLETED, end_time_ms: int = 2_000) -> None:
        await self.state.write([Ended(seq, status, end_time_ms, 1) for seq in seqs])


@pytest.fixture
def backend(request):
    return request.param


@pytest.fixture
async def cluster(backend, tmp_path):
    cluster = Cluster(backend, tmp_path)
    await cluster.start()
    yield cluster
    await cluster.storage.close()
    backend.check()


@pytest.fixture
def new_event():
    """Make an event; every argument has a default."""
    clock = itertools.count(1_000)

    def make(flow_id="shop", **fields) -> NewEvent:
        now_ms = next(clock)
        defaults = {
            "event_id": ids.mint(ids.slot_of(flow_id), now_ms=now_ms),
            "flow_revision": 1,
            "receive_time_ms": now_ms,
            "payload": b"payload",
        }
        return NewEvent(flow_id=flow_id, **(defaults | fields))

    return make


@pytest.fixture
def new_arrival():
    """Make an arrival; every argument has a default."""
    clock = itertools.count(1_000)

    def make(flow_id="shop", **fields) -> NewInboundEvent:
        now_ms = next(clock)
        defaults = {
            "event_id": ids.mint(ids.slot_of(flow_id), now_ms=now_ms),
            "callback": True,
            "type": "approval",
            "receive_time_ms": now_ms,
            "payload": b"{}",
            "expire_at_ms": 2**45,
        }
        return NewInboundEvent(flow_id=flow_id, **(defaults | fields))

    return make


@pytest.fixture
def draft():
    """Make a flow's draft; every argument has a default."""

    def make(flow_id="shop", document=b"do: []", definition=b'{"do":[]}', *, has_webhook=True, reacts=False):
        return FlowDraft(flow_id, document, definition, has_webhook, reacts)

    return make
