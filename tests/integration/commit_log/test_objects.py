"""Objects on a real server: stored, replaced, removed, and damaged underneath."""

import contextlib
import os

import pytest
from nats.js.errors import NotFoundError

from flowhook.errors import UnavailableError
from router.storage.commit_log.interface import ObjectDamagedError
from router.storage.commit_log.jetstream.objects import CHUNK_BYTES
from router.storage.commit_log.refusals import RefusedKind
from router.storage.commit_log.seals import OVERHEAD_BYTES

SIZES = [0, 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 17]


@pytest.fixture
def system(opened, server):
    return opened(server)


@pytest.fixture
def objects(system):
    return system.objects


@pytest.fixture
def stored_messages(system, prefix):
    """Return how many messages the bucket has."""
    connection = system.log._connection
    return lambda: connection.call(connection.jetstream.stream_info(f"OBJ_{prefix}_OBJECTS")).state.messages


@pytest.fixture
def file(tmp_path):
    def write(data, name="file"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


@pytest.mark.parametrize("size", SIZES)
def test_an_object_is_what_was_stored(opened, server, file, tmp_path, size):
    data = os.urandom(size)
    opened(server).objects.put("snap/0/1.zst", file(data))
    copy = tmp_path / "copy"
    assert opened(server).objects.get("snap/0/1.zst", copy)
    assert copy.read_bytes() == data
    assert copy.stat().st_mode & 0o777 == 0o600


def test_what_was_not_stored_is_not_there(objects, tmp_path):
    assert not objects.get("body/0/none", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    objects.delete("body/0/none")
    assert objects.names("") == []


def test_objects_are_listed_by_the_beginning_of_their_names(objects, file):
    for name in ("snap/0/2.zst", "snap/0/1.zst", "body/0/A-b_c"):
        objects.put(name, file(name.encode()))
    assert objects.names("snap/0/") == ["snap/0/1.zst", "snap/0/2.zst"]
    assert objects.names("") == ["body/0/A-b_c", "snap/0/1.zst", "snap/0/2.zst"]
    first, second = objects.stored("snap/")
    assert (first.name, first.size, second.name) == ("snap/0/1.zst", 12 + OVERHEAD_BYTES, "snap/0/2.zst")
    assert first.create_time < second.create_time + 1


def test_an_object_is_replaced_and_its_former_chunks_are_removed(objects, file, tmp_path, stored_messages):
    objects.put("name", file(os.urandom(3 * CHUNK_BYTES)))
    objects.put("name", file(b"new"))
    assert objects.get("name", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"new"
    assert stored_messages() == 2  # a chunk and a description


def test_nothing_of_a_removed_object_is_left(objects, file, stored_messages, tmp_path):
    objects.put("name", file(os.urandom(3 * CHUNK_BYTES)))
    objects.delete("name")
    assert objects.names("") == []
    assert not objects.get("name", tmp_path / "copy")
    assert stored_messages() == 0


def test_an_interrupted_removal_is_completed(objects, file, stored_messages, tmp_path):
    objects.put("name", file(os.urandom(3 * CHUNK_BYTES)))
    objects._publish_description("name", objects._describe("name").chunks_id, 0, 0, "", deleted=True)
    assert not objects.get("name", tmp_path / "copy")
    assert objects.stored("") == []
    objects.delete("name")
    assert stored_messages() == 0


def test_chunks_of_an_object_that_was_never_completed_are_removed(objects, file, stored_messages, tmp_path):
    objects.put("name", file(b"content"))
    objects._put_chunks("name", "lost", file(os.urandom(3 * CHUNK_BYTES), "lost"))
    assert objects.remove_orphans() == 0  # they may be on their way
    assert objects.remove_orphans(older_than=0) == 1
    assert stored_messages() == 2
    assert objects.get("name", tmp_path / "copy")


def test_storing_an_object_ends_with_the_connection(system, file, monkeypatch):
    put_chunks, attempts = system.objects._put_chunks, []

    def close_and_put(*arguments):
        attempts.append(arguments)
        system.close()
        return put_chunks(*arguments)

    monkeypatch.setattr(system.objects, "_put_chunks", close_and_put)
    with pytest.raises(UnavailableError):
        system.objects.put("name", file(b"content"))
    assert len(attempts) == 1


def test_an_object_whose_chunk_was_changed_is_not_given_out(system, prefix, file, tmp_path):
    objects, connection = system.objects, system.log._connection
    objects.put("name", file(b"as it was stored"))
    chunks = objects._chunks(objects._describe("name").chunks_id)
    connection.call(connection.jetstream.purge_stream(f"OBJ_{prefix}_OBJECTS", subject=chunks))
    connection.call(connection.jetstream.publish(chunks, b"as it was altered"))
    with pytest.raises(ObjectDamagedError):
        objects.get("name", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_an_object_whose_chunks_are_lost_is_not_given_out(system, prefix, file, tmp_path):
    objects, connection = system.objects, system.log._connection
    objects.put("name", file(b"as it was stored"))
    chunks = objects._chunks(objects._describe("name").chunks_id)
    connection.call(connection.jetstream.purge_stream(f"OBJ_{prefix}_OBJECTS", subject=chunks))
    with pytest.raises(ObjectDamagedError):
        objects.get("name", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_an_existing_file_is_not_overwritten(objects, file):
    objects.put("name", file(b"object"))
    existing = file(b"precious", "existing")
    with pytest.raises(FileExistsError):
        objects.get("name", existing)
    assert existing.read_bytes() == b"precious"


def test_objects_have_the_format_of_jetstreams_object_store(system, prefix, file):
    """So that `nats object` lists and reads them, though it can't open them."""
    data = os.urandom(2 * CHUNK_BYTES + 1)
    system.objects.put("snap/0/1.zst", file(data))

    async def get():
        store = await system.log._connection.jetstream.object_store(f"{prefix}_OBJECTS")
        return await store.get("snap/0/1.zst")

    found = system.log._connection.call(get())
    assert len(found.data) == len(data) + 3 * OVERHEAD_BYTES == found.info.as_dict()["size"]
    assert data[:32] not in found.data


async def _messages(jetstream, stream, subject):
    """Return the messages of a subject, in order."""
    found, after = [], 0
    with contextlib.suppress(NotFoundError):
        while True:
            found.append(await jetstream.get_msg(stream, after + 1, subject, next=True))
            after = found[-1].seq
    return [message.data for message in found]


@pytest.mark.parametrize(
    "change",
    [
        lambda chunks, _other, _former: [chunks[1], chunks[0], *chunks[2:]],
        lambda chunks, _other, _former: chunks[:-1],
        lambda chunks, _other, _former: [*chunks, chunks[0]],
        lambda chunks, other, _former: [other[0], *chunks[1:]],
        lambda _chunks, other, _former: other,
        lambda chunks, _other, former: [former[0], *chunks[1:]],
        lambda chunks, _other, _former: [bytes([*chunks[0][:-1], chunks[0][-1] ^ 1]), *chunks[1:]],
        lambda _chunks, _other, _former: [b"as somebody likes it"],
        lambda _chunks, _other, _former: [],
    ],
    ids=["swapped", "cut", "repeated", "mixed", "replaced", "former", "changed", "made up", "emptied"],
)
def test_an_object_whose_chunks_no_router_stored_there_is_refused_and_reported(system, prefix, file, tmp_path, change):
    """With a description that agrees, which anybody can make."""
    objects, connection, stream = system.objects, system.log._connection, f"OBJ_{prefix}_OBJECTS"

    def chunks_of(name):
        subject = objects._chunks(objects._describe(name).chunks_id)
        return connection.call(_messages(connection.jetstream, stream, subject))

    content = os.urandom(2 * CHUNK_BYTES + 1)
    objects.put("name", file(content))
    former = chunks_of("name")
    objects.put("name", file(content))
    objects.put("other", file(os.urandom(2 * CHUNK_BYTES + 1)))
    described = objects._describe("name")
    forged = change(chunks_of("name"), chunks_of("other"), former)
    connection.call(connection.jetstream.purge_stream(stream, subject=objects._chunks(described.chunks_id)))
    for chunk in forged:
        connection.call(connection.jetstream.publish(objects._chunks(described.chunks_id), chunk))
    objects._publish_description("name", described.chunks_id, sum(map(len, forged)), len(forged), "")
    with pytest.raises(ObjectDamagedError):
        objects.get("name", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert system.refusals.count(RefusedKind.OBJECT) == 1
    assert "object name was refused" in system.refusals.warning


@pytest.mark.parametrize(
    "description", [b"", b"{", b"[]", b"{}", b'{"nuid": ">", "mtime": "2026-01-01T00:00:00+00:00"}']
)
def test_what_anybody_may_store_beside_objects_keeps_no_router_from_using_them(system, file, tmp_path, description):
    objects, connection = system.objects, system.log._connection
    objects.put("snap/0/1.zst", file(b"content"))
    headers = {"Fh-Object": "no name!"}
    for subject in (objects._description("snap/0/2.zst"), objects._description_prefix + "no-base64!"):
        connection.call(connection.jetstream.publish(subject, description or b"x"))
    connection.call(connection.jetstream.publish(objects._chunks("0" * 32), b"orphan", headers=headers))
    assert objects.names("snap/") == ["snap/0/1.zst", "snap/0/2.zst"]
    assert [each.name for each in objects.stored("snap/")] == ["snap/0/1.zst"]
    assert not objects.get("snap/0/2.zst", tmp_path / "none")
    objects.delete("snap/0/2.zst")
    assert objects.remove_orphans(older_than=0) == 0
    assert objects.get("snap/0/1.zst", tmp_path / "copy")
    objects.put("snap/0/2.zst", file(b"content"))
    assert objects.get("snap/0/2.zst", tmp_path / "second")
