"""What is sealed opens where it was sealed for, and nowhere else."""

import pytest
from support.cases import cases
from support.cluster_keys import KEY, KEYS

from flowhook.errors import ConflictError
from router.storage.commit_log.seals import (
    OVERHEAD_BYTES,
    ChunkPlace,
    ClusterKeys,
    FactSeals,
    NotAuthenticError,
    ObjectSeals,
    RecordSeals,
    Sealer,
)


def sealer(*keys, purpose="records", context="log"):
    return Sealer(ClusterKeys(*keys or (KEY,)).derive(purpose, context))


@pytest.mark.parametrize("message", [b"", b"x", b"record" * 10_000])
def test_what_one_router_seals_another_one_opens(message):
    sealed = sealer().seal(message, b"place")
    assert len(sealed) == len(message) + OVERHEAD_BYTES
    assert len(message) < 16 or message not in sealed  # a shorter one may be in it by chance
    assert sealer().open(sealed, b"place") == message


def test_a_change_of_any_byte_is_seen():
    sealed = sealer().seal(b"content", b"place")
    reader = sealer()
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(NotAuthenticError):
            reader.open(bytes(changed), b"place")
    for length in range(len(sealed)):
        with pytest.raises(NotAuthenticError):
            reader.open(sealed[:length], b"place")
    assert reader.open(sealed, b"place") == b"content"


@pytest.mark.parametrize(
    "reader",
    [sealer(b"o" * 32), sealer(purpose="objects"), sealer(context="another log")],
    ids=["key", "purpose", "context"],
)
def test_another_key_purpose_or_context_opens_nothing(reader):
    with pytest.raises(NotAuthenticError):
        reader.open(sealer().seal(b"content", b"place"), b"place")


def test_associated_data_have_to_agree():
    with pytest.raises(NotAuthenticError):
        sealer().open(sealer().seal(b"content", b"place"), b"another place")


def test_no_nonce_is_used_twice_under_one_key():
    one, other = sealer(), sealer()
    headers = [each.seal(b"", b"")[:-16] for _ in range(1000) for each in (one, other)]
    assert len(set(headers)) == 2000


def test_copies_of_a_machine_that_draw_the_same_random_numbers_use_no_nonce_twice(monkeypatch):
    monkeypatch.setattr("secrets.token_bytes", bytes)  # as in memory that was copied
    copies = sealer(), sealer()
    headers = [each.seal(b"", b"")[:-16] for _ in range(1000) for each in copies]
    assert len(set(headers)) == 2000


def test_the_newest_key_seals_and_every_key_opens():
    old, new = b"o" * 32, b"n" * 32
    earlier, rotating = sealer(old), sealer(new, old)
    assert rotating.open(earlier.seal(b"earlier", b""), b"") == b"earlier"
    assert sealer(new).open(rotating.seal(b"later", b""), b"") == b"later"
    with pytest.raises(NotAuthenticError):
        earlier.open(rotating.seal(b"later", b""), b"")


# --- records ------------------------------------------------------------------------------------------


def test_a_record_opens_at_its_position_in_its_log():
    message_id, content = RecordSeals(KEYS, "log").seal(7, "1:writer:1:0", b"data")
    record = RecordSeals(KEYS, "log").open(7, message_id, content)
    assert (record.position, record.batch_id, record.data, record.void) == (7, "1:writer:1:0", b"data", False)


@pytest.mark.parametrize(("log", "position"), [("log", 8), ("another", 7)])
def test_a_record_is_void_anywhere_else(log, position):
    message_id, content = RecordSeals(KEYS, "log").seal(7, "1:writer:1:0", b"data")
    record = RecordSeals(KEYS, log).open(position, message_id, content)
    assert (record.data, record.void, record.damaged) == (b"", True, False)


def test_a_record_whose_content_was_changed_is_known_to_be_damaged():
    message_id, content = RecordSeals(KEYS, "log").seal(7, "1:writer:1:0", b"data")
    record = RecordSeals(KEYS, "log").open(7, message_id, content[:-1] + bytes([content[-1] ^ 1]))
    assert (record.batch_id, record.data, record.void, record.damaged) == ("1:writer:1:0", b"", True, True)


@pytest.mark.parametrize("message_id", ["", "1:writer:1:0", "1:writer:1:0:00", "\udcff:é:", "1:writer:2:0:" + "0" * 32])
def test_a_made_up_record_is_void(message_id):
    record = RecordSeals(KEYS, "log").open(7, message_id, b"content")
    assert (record.data, record.void, record.damaged) == (b"", True, False)


# --- objects ------------------------------------------------------------------------------------------

PLACE = ChunkPlace("snap/0/1.zst", "abc", 3, 1)


def objects():
    return ObjectSeals(KEYS.derive("objects", "FLOWHOOK"))


@pytest.mark.parametrize(
    "change",
    [{"name": "snap/0/2.zst"}, {"transfer": "abd"}, {"chunks": 2}, {"number": 0}],
    ids=lambda each: next(iter(each)),
)
def test_a_chunk_opens_in_its_place_alone(change):
    stored = objects().seal(PLACE, b"chunk")
    assert objects().open(PLACE, stored) == b"chunk"
    with pytest.raises(NotAuthenticError):
        objects().open(PLACE._replace(**change), stored)


# --- facts ------------------------------------------------------------------------------------------


def facts(*keys):
    return FactSeals(ClusterKeys(*keys or (KEY,)).derive("facts", "FLOWHOOK"))


@cases(
    ("stored", "reason"),
    [
        ("plain", "LOG_FACT_FORGED"),
        (facts(b"o" * 32).seal("log", "value"), "SECRETS_KEY_DIFFERS"),
        (facts().seal("log", "value").replace("value", "other"), "LOG_FACT_FORGED"),
        (facts().seal("another", "value"), "LOG_FACT_FORGED"),
        (facts().seal("log", "value")[:-1], "LOG_FACT_FORGED"),
        (facts().seal("log", "value") + "é", "LOG_FACT_FORGED"),
    ],
)
def test_a_fact_is_what_a_router_stored_under_its_name(stored, reason):
    assert facts().open("log", facts().seal("log", "value")) == "value"
    with pytest.raises(ConflictError) as refused:
        facts().open("log", stored)
    assert refused.value.reason == reason
