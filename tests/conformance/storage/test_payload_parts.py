"""Reading parts of stored events."""

import pytest

from flowhook import limits
from flowhook.model import Status
from router.storage.model import Ended

SMALL = bytes(range(256)) * 100
LARGE = bytes(range(256)) * (limits.INLINE_BODY_BYTES // 256 + 1)


@pytest.mark.parametrize("payload", [b"x", SMALL, LARGE], ids=["tiny", "in the database", "in a file"])
async def test_parts_of_a_payload_are_read_without_the_rest(cluster, new_event, payload):
    (seq,) = await cluster.append(new_event(payload=payload))

    size, middle = len(payload), len(payload) // 2
    slices = [(0, 7), (middle, 100), (size - 1, 9), (size + 1, 1)]

    def read(stored):
        return stored.size, [stored.read(*each) for each in slices]

    expected = [payload[:7], payload[middle : middle + 100], payload[-1:], b""]
    assert await cluster.state.read_payload(seq, read) == (size, expected)


@pytest.mark.parametrize("payload", [SMALL, LARGE], ids=["in the database", "in a file"])
async def test_content_is_returned_without_its_event_if_so_requested(cluster, new_event, payload):
    (seq,) = await cluster.append(new_event(payload=payload))
    await cluster.state.write([Ended(seq, Status.COMPLETED, 2_000, 1, b"7")])
    content = await cluster.state.content(seq, with_payload=False)
    assert (content.payload, content.output) == (b"", b"7")


async def test_there_are_no_parts_of_an_unknown_execution_and_of_one_past_retention(cluster, new_event):
    (seq,) = await cluster.append(new_event(payload=LARGE))
    await cluster.end(seq)
    await cluster.state.expire(ended_before_ms=9_000)
    for each in (seq, 999):
        assert await cluster.state.read_payload(each, lambda stored: stored.size) is None
        assert await cluster.state.content(each, with_payload=False) is None
