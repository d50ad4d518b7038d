"""Directories and buckets as targets of backups; buckets in memory."""

import os

import pytest
from obstore.store import MemoryStore

from flowhook.errors import UnavailableError
from router.storage.backups.targets import DirectoryTarget, S3Target, open_s3


@pytest.fixture
def work(tmp_path):
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture(params=["directory", "bucket"])
def target(request, tmp_path, work):
    if request.param == "directory":
        return DirectoryTarget(tmp_path / "backups")
    return S3Target("s3://bucket/prefix/", MemoryStore(), work)


def writing(content):
    def write(path):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)

    return write


def test_files_are_stored_listed_and_removed(target, work):
    assert list(target.names()) == []
    for name in ("b", "a"):
        assert target.store(name, writing(name.encode() * 7_000_000)).endswith(f"/{name}")
    assert list(target.names()) == ["a", "b"]
    target.remove("a")
    assert list(target.names()) == ["b"]
    assert list(work.iterdir()) == []


def test_what_an_upload_that_was_killed_left_is_removed_by_the_next_one(work):
    (work / "upload").mkdir()
    (work / "upload" / "old").touch()
    S3Target("s3://bucket/prefix", MemoryStore(), work).store("a", writing(b"a"))
    assert list(work.iterdir()) == []


def test_a_file_of_many_gigabytes_is_sent_in_no_more_parts_than_s3_takes(work, monkeypatch):
    sent = []
    monkeypatch.setattr(MemoryStore, "put", lambda store, name, path, *, chunk_size: sent.append(chunk_size))
    monkeypatch.setattr(MemoryStore, "head", lambda *_: {"size": 1 << 40})
    S3Target("s3://bucket", MemoryStore(), work).store("a", lambda path: os.truncate(path, path.touch() or 1 << 40))
    assert (1 << 40) / sent[0] <= 10_000


def test_what_fails_to_be_made_is_not_stored(target, work):
    def fail(path):
        writing(b"half")(path.with_name(f".{path.name}"))
        raise UnavailableError("no")

    with pytest.raises(UnavailableError):
        target.store("a", fail)
    assert "a" not in target.names()


def test_a_file_is_fetched_as_it_was_stored(work):
    target = S3Target("s3://bucket", MemoryStore(), work)
    content = bytes(range(256)) * 50_000
    target.store("a", writing(content))
    (work / "download").mkdir()
    (work / "download" / "a").write_bytes(b"of one that was killed")
    with target.fetched("a") as path:
        assert path.read_bytes() == content
    assert not path.exists()
    with pytest.raises(UnavailableError, match="s3://bucket: ") as raised, target.fetched("b"):
        pass
    assert raised.value.reason == "BACKUP_TARGET_UNAVAILABLE"


def test_an_object_of_another_size_than_was_sent_is_not_taken_for_a_backup(work, monkeypatch):
    target = S3Target("s3://bucket", MemoryStore(), work)
    target._store.put("a", b"other")
    monkeypatch.setattr(MemoryStore, "put", lambda *_, **_more: None)
    with pytest.raises(UnavailableError, match="has 5 bytes"):
        target.store("a", writing(b"content"))


def test_a_bucket_that_does_not_answer_is_said_in_one_line(work, monkeypatch):
    for name, value in {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ACCESS_KEY_ID": "a",
                        "AWS_SECRET_ACCESS_KEY": "b"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("router.storage.backups.targets.MAX_RETRIES", 0)
    target = open_s3("s3://bucket/prefix", work)
    with pytest.raises(UnavailableError, match=r"^s3://bucket/prefix: .*127.0.0.1:1.*$") as raised:
        target.names()
    assert "\n" not in raised.value.message
    assert raised.value.reason == "BACKUP_TARGET_UNAVAILABLE"
