"""Bodies that come a piece at a time, apart from the events that name them."""

import hashlib

import pytest
from support.body_seats import UploadedBytes

from flowhook.errors import InvalidError
from flowhook.model import Status
from router.storage.model import Appended, Ended

PIECES = [b"a" * 70_000, b"b" * 3, b"c" * 70_000]
WHOLE = b"".join(PIECES)


@pytest.fixture
def taken():
    return UploadedBytes()


@pytest.fixture
def store(cluster, taken):
    """Upload a body for a flow."""

    async def upload(flow_id="shop", pieces=PIECES):
        upload = await cluster.storage.bodies.begin(flow_id, (size := sum(map(len, pieces))), taken.seat(size))
        for piece in pieces:
            await upload.write(piece)
        return await upload.finish()

    return upload


@pytest.fixture
def read(cluster):
    """Return the content of a body; None when it is gone."""

    async def whole(body_id):
        reader = await cluster.storage.bodies.open(body_id)
        if reader is None:
            return None
        content = await reader.read(0, reader.size)
        reader.close()
        return content

    return whole


async def test_a_body_is_kept_as_it_came_with_its_size_and_hash(cluster, store, read, new_event):
    stored = await store()
    assert (stored.size, stored.sha256) == (len(WHOLE), hashlib.sha256(WHOLE).digest())
    assert cluster.storage.bodies.waiting(stored.id, "shop").id == stored.id
    event = new_event(body=stored.id)
    assert await cluster.log.append([event]) == [Appended(1)]
    assert cluster.storage.bodies.waiting(stored.id, "shop") is None
    assert await cluster.state.body_of(event.event_id) == stored.id
    assert await read(stored.id) == WHOLE


async def test_a_slice_of_a_body_is_read(cluster, store):
    reader = await cluster.storage.bodies.open((await store()).id)
    assert reader.size == len(WHOLE)
    assert await reader.read(69_999, 5) == b"abbbc"
    assert await reader.read(len(WHOLE) - 1, 5) == b"c"
    reader.close()


async def test_a_body_whose_size_nobody_knew_is_kept(cluster, taken):
    upload = await cluster.storage.bodies.begin("shop", None, taken.seat(None))
    await upload.write(b"abc")
    assert taken.used == 3
    assert (await upload.finish()).size == 3


@pytest.mark.parametrize(("size", "pieces"), [(5, [b"abc"]), (2, [b"abc"]), (2, [b"a", b"bc"]), (None, [])])
async def test_a_body_of_another_size_than_was_said_and_an_empty_one_are_refused(cluster, taken, size, pieces):
    upload = await cluster.storage.bodies.begin("shop", size, taken.seat(size))
    with pytest.raises(InvalidError) as raised:  # noqa: PT012 - whichever of the two finds out
        for piece in pieces:
            await upload.write(piece)
        await upload.finish()
    assert raised.value.reason == "UPLOAD_INVALID"
    upload.discard()
    assert taken.used == 0


async def test_what_was_given_up_counts_no_more_and_is_finished_no_more(cluster, taken):
    bodies = cluster.storage.bodies
    upload = await bodies.begin("shop", 10, taken.seat(10))
    assert taken.used == 10
    await upload.write(b"0123456789")
    upload.discard()
    upload.discard()
    assert taken.used == 0


async def test_an_event_that_names_no_body_that_is_there_is_not_stored(cluster, store, new_event):
    of_another_flow = await store("bank")
    events = [
        new_event(body="0" * 32, dedupe_key="k", dedupe_until_ms=2**45),
        new_event(body=of_another_flow.id),
        new_event(dedupe_key="k", dedupe_until_ms=2**45),
    ]
    assert await cluster.log.append(events) == [
        Appended(0, body_missing=True),
        Appended(0, body_missing=True),
        Appended(1),
    ]
    assert await cluster.state.find(events[0].event_id) is None


async def test_an_event_that_is_appended_again_is_a_duplicate_and_its_body_stays(cluster, store, read, new_event):
    stored = await store()
    event = new_event(body=stored.id)
    await cluster.log.append([event])
    assert await cluster.log.append([event]) == [Appended(1, event.event_id)]
    await cluster.restart()
    assert await cluster.log.append([event]) == [Appended(1, event.event_id)]
    assert await read(stored.id) == WHOLE


async def test_the_body_of_a_repeated_delivery_is_removed(cluster, store, read, new_event):
    first, second = await store(), await store()
    events = [new_event(body=each.id, dedupe_key="k", dedupe_until_ms=2**45) for each in (first, second)]
    await cluster.log.append(events[:1])
    assert await cluster.log.append(events[1:]) == [Appended(1, events[0].event_id)]
    assert cluster.storage.bodies.waiting(second.id, "shop") is None
    await cluster.restart()
    assert (await read(first.id), await read(second.id)) == (WHOLE, None)


async def test_the_body_of_an_event_whose_id_is_taken_is_removed(cluster, store, read, new_event):
    event, stored = new_event(), await store("bank")
    await cluster.log.append([event])
    of_another_flow = event._replace(flow_id="bank", body=stored.id)
    assert await cluster.log.append([of_another_flow]) == [Appended(0, taken=True)]
    assert cluster.storage.bodies.waiting(stored.id, "bank") is None
    await cluster.restart()
    assert await read(stored.id) is None


async def test_a_replay_shares_the_body_which_goes_with_the_last_of_them(cluster, store, read, new_event):
    stored = await store()
    original = new_event(body=stored.id)
    replay = new_event(body=stored.id, replay_of=original.event_id)
    stranger = new_event(body=stored.id, replay_of=new_event().event_id)
    assert await cluster.append(original) == [1]
    assert await cluster.log.append([replay, stranger]) == [Appended(2), Appended(0, body_missing=True)]
    await cluster.end(1)
    assert await cluster.state.expire(ended_before_ms=9_000) == 1
    await cluster.restart()
    assert await read(stored.id) == WHOLE
    await cluster.state.write([Ended(2, Status.FAULTED, 2_000, 1)])
    assert await cluster.state.expire(ended_before_ms=9_000) == 1
    assert await read(stored.id) is None


async def test_what_was_not_named_is_gone_after_a_restart(cluster, taken, store, read, new_event):
    stored = await store()
    upload = await cluster.storage.bodies.begin("shop", 10, taken.seat(10))
    await upload.write(b"half")
    await cluster.restart()
    assert cluster.storage.bodies.waiting(stored.id, "shop") is None
    assert await read(stored.id) is None
    assert await cluster.log.append([new_event(body=stored.id)]) == [Appended(0, body_missing=True)]


async def test_what_waited_for_too_long_is_swept_and_nothing_else(cluster, taken, store, read, new_event):
    named, waiting = await store(), await store()
    await cluster.append(new_event(body=named.id))
    assert cluster.storage.bodies.sweep(seconds=3600) == 0
    assert cluster.storage.bodies.sweep(seconds=0) == 1
    assert taken.used == 0
    await cluster.restart()
    assert (await read(named.id), await read(waiting.id)) == (WHOLE, None)


async def test_only_who_knows_the_flow_discards_a_body(cluster, store):
    stored = await store()
    cluster.storage.bodies.discard(stored.id, "bank")
    assert cluster.storage.bodies.waiting(stored.id, "shop").id == stored.id
    cluster.storage.bodies.discard(stored.id, "shop")
    assert cluster.storage.bodies.waiting(stored.id, "shop") is None
