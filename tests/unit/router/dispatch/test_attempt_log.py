from types import SimpleNamespace

from router.dispatch import state_writer
from router.dispatch.state_writer import STARTED_DELAY, AttemptLog
from router.storage.model import Started


class Writer:
    """Collects what is written."""

    is_open = True

    def __init__(self):
        self.written = []

    def spawn(self, changes):
        self.written.append(changes)

    def try_write(self, changes):
        return changes


async def test_an_attempt_is_stored_once_it_lasts_and_younger_ones_are_left(monkeypatch):
    now = 100.0
    monkeypatch.setattr(state_writer, "monotonic", lambda: now)
    writer = Writer()
    shard = SimpleNamespace(leases=SimpleNamespace(attempt_of={1: 1, 2: 1, 3: 2}.get))
    log = AttemptLog(shard, writer, lambda: int(now * 1000))
    log.add([1, 2])
    now += STARTED_DELAY
    log.add([3, 4])
    log.drop(2)
    log._write()
    assert writer.written == [[Started(1, 1, time_ms=100_000)]]
    now += STARTED_DELAY
    log._write()
    assert writer.written[1:] == [[Started(3, 2, time_ms=100_100)]], "that of 4 has ended"
    log._write()
    assert len(writer.written) == 2
