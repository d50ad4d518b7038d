"""What the messages of one execution cost in CPU, without network: `python -m bench.attach`.

An assignment with four journal entries, a checkpoint, an outcome, and their acknowledgement, in messages of sixteen:
from the plain messages to bytes and back, with the queues and checks of the router's half.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from flowhook.attach import codec, messages
from flowhook.model import JournalEntry
from router.session import RunnerSession, SendQueue

ROUNDS = 300
REPEATS = 9
BATCH = 16

LEASES = [b"%016d" % number for number in range(BATCH)]
ENTRIES = tuple(JournalEntry(f"/do/{index}/call#0", b'{"x":1,"text":"something longer"}') for index in range(4))
HISTORY = b'[["/do/0",1,2,3]]'
EVENT = b"x" * 1200


def assignments() -> bytes:
    """Return a message of assignments from the router."""
    queue = SendQueue()
    queue.assign([messages.Assignment(lease, 2, 7, EVENT, ENTRIES) for lease in LEASES])
    return _sent(queue)


def acknowledgements() -> bytes:
    """Return a message that acknowledges a checkpoint and an outcome of each execution."""
    queue = SendQueue()
    queue.settle(LEASES)
    for lease in LEASES:
        queue.acknowledge(lease, 4)
    return _sent(queue)


def _sent(queue: SendQueue) -> bytes:
    (response,) = codec.encode_responses(queue.take())
    return response.SerializeToString()


def checkpoints() -> bytes:
    """Return a message of checkpoints from the runner."""
    batch = tuple(messages.Checkpoint(lease, 4, ENTRIES[0], history=HISTORY) for lease in LEASES)
    return _reported(messages.CheckpointBatch(batch))


def outcomes() -> bytes:
    """Return a message of outcomes from the runner."""
    batch = tuple(messages.Outcome(lease, messages.Completed(b'{"done":true}'), (), HISTORY) for lease in LEASES)
    return _reported(messages.OutcomeBatch(batch))


def _reported(batch: messages.RunnerMessage) -> bytes:
    (request,) = codec.encode_requests([batch])
    return request.SerializeToString()


def read_by_runner(payload: bytes) -> None:
    """Decode a message from the router."""
    list(codec.decode_response(codec.Response.FromString(payload)))


def read_by_router(session: RunnerSession) -> Callable[[bytes], None]:
    """Return a function that decodes and checks a message from the runner."""

    def read(payload: bytes) -> None:
        for message, size in codec.decode_request(codec.Request.FromString(payload)):
            session.receive(message, size)
        session.reports.take()
        session.reports.stored()

    return read


def cost(work: Callable[[], object]) -> float:
    """Return the CPU time of `work` for one execution in µs, the least of some repeats."""
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        for _ in range(ROUNDS):
            work()
        times.append(time.process_time() - began)
    return min(times) / ROUNDS / BATCH * 1e6


def main() -> None:
    """Print a line for each message."""
    session = RunnerSession()
    session.receive(messages.Hello("bench", (), "", (), losses_explained=True), 0)
    read = read_by_router(session)
    for write, reader in (
        (assignments, read_by_runner),
        (checkpoints, read),
        (outcomes, read),
        (acknowledgements, read_by_runner),
    ):
        payload = write()
        writing, reading = cost(write), cost(lambda reader=reader, payload=payload: reader(payload))  # type: ignore[misc]
        print(f"{write.__name__:<18} write {writing:5.1f} µs, read {reading:5.1f} µs of CPU per execution")


if __name__ == "__main__":
    main()
