"""A cluster whose servers are killed, stopped and paused while a router appends and stores objects."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from support.nats_servers import CAMPAIGN, NatsServer
from support.patience import PATIENCE

from flowhook.errors import UnavailableError


class Writer:
    """Appends in a thread of its own until it is stopped, and remembers what was acknowledged."""

    def __init__(self, log):
        self._log = log
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self.acknowledged = []

    def start(self, pool):
        self._writing = pool.submit(self._write)

    @property
    def done(self):
        return self._writing.done()

    def _write(self):
        position = 0
        while not self._stop.is_set():
            position = self._log.append(position, f"batch-{position + 1}", b"x" * 1000)
            with self._changed:
                self.acknowledged.append(position)
                self._changed.notify_all()

    def wait_for_more(self):
        """Wait until what is appended from now on is acknowledged."""
        with self._changed:
            enough = len(self.acknowledged) + 5
            assert self._changed.wait_for(lambda: len(self.acknowledged) >= enough or self._writing.done(), PATIENCE)

    def stop(self):
        self._stop.set()

    def result(self):
        """Raise what an append raised."""
        self._writing.result()


@contextmanager
def writing(log):
    writer = Writer(log)
    with ThreadPoolExecutor(1) as pool:
        writer.start(pool)
        try:
            yield writer
        finally:
            writer.stop()
    writer.result()


@pytest.mark.parametrize(
    ("loses", "regains"),
    [
        pytest.param(NatsServer.kill, NatsServer.start, id="killed"),
        pytest.param(NatsServer.stop, NatsServer.start, id="stopped", marks=CAMPAIGN),
        pytest.param(NatsServer.pause, NatsServer.resume, id="paused", marks=CAMPAIGN),
    ],
)
def test_what_was_acknowledged_survives_its_leader(opened, cluster, prefix, tmp_path, *, loses, regains):
    system, reader = opened(cluster), opened(cluster).log
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * 40_000)
    with ThreadPoolExecutor(1) as pool, writing(system.log) as writer:
        following = pool.submit(follow, reader, writer)
        writer.wait_for_more()
        leader = cluster.leader(f"{prefix}_LOG_0")
        loses(leader)
        system.objects.put("snap/0/1.zst", path)
        writer.wait_for_more()
        regains(leader)
        leader.wait_until_ready()
        writer.wait_for_more()
    assert following.result(PATIENCE) == len(writer.acknowledged)
    records = list(reader.read(0))
    assert writer.acknowledged == list(range(1, len(records) + 1))
    assert [record.batch_id for record in records] == [f"batch-{number}" for number in writer.acknowledged]
    assert system.objects.get("snap/0/1.zst", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()


def follow(log, writer):
    """Read until the writer has stopped; return how many records came, each in its turn."""
    position = 0
    while not writer.done or max(writer.acknowledged, default=0) > position:
        with contextlib.suppress(UnavailableError):
            for record in log.read(position, wait_seconds=0.1):
                assert record.position == position + 1
                position += 1
    return position
