"""Objects on a real server: stored, replaced, removed, and damaged underneath."""

import json
import os

import pytest

from router.storage.commit_log.interface import ObjectDamagedError
from router.storage.commit_log.jetstream.objects import CHUNK_BYTES

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
    connection = system._connection
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
    assert (first.name, first.size, second.name) == ("snap/0/1.zst", 12, "snap/0/2.zst")
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


def test_an_object_whose_chunk_was_changed_is_not_given_out(system, prefix, file, tmp_path):
    objects, connection = system.objects, system._connection
    objects.put("name", file(b"as it was stored"))
    chunks = objects._chunks(objects._describe("name").chunks_id)
    connection.call(connection.jetstream.purge_stream(f"OBJ_{prefix}_OBJECTS", subject=chunks))
    connection.call(connection.jetstream.publish(chunks, b"as it was altered"))
    with pytest.raises(ObjectDamagedError):
        objects.get("name", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_an_object_whose_chunks_are_lost_is_not_given_out(system, prefix, file, tmp_path):
    objects, connection = system.objects, system._connection
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
    """So that `nats object` lists and reads them."""
    data = os.urandom(2 * CHUNK_BYTES + 1)
    system.objects.put("snap/0/1.zst", file(data))

    async def get():
        store = await system._connection.jetstream.object_store(f"{prefix}_OBJECTS")
        return await store.get("snap/0/1.zst")

    found = system._connection.call(get())
    assert found.data == data
    assert json.loads(json.dumps(found.info.as_dict()))["size"] == len(data)
