"""Heartbeats: what is none is not taken for one."""

import orjson
from support.cases import cases

from router.cluster.records import MemberState, RouterRecord

RECORD = RouterRecord("r1", "host:1", "1", MemberState.SERVING, 3, 2, 7, candidate=False)


def changed(**fields):
    return orjson.dumps(orjson.loads(RECORD.encode()) | fields)


def test_a_record_is_decoded_as_it_was_encoded():
    assert RouterRecord.decode(RECORD.encode()) == RECORD


@cases(
    "content",
    [
        b"",
        b"[]",
        b"[" * 5000,
        b"\xff",
        changed(candidate=""),
        changed(candidate=None),
        changed(candidate=1),
        changed(position=-1),
        changed(epoch=-1),
        changed(epoch=2**64 - 1),
        changed(epoch=1.0),
        changed(yielded=True),
        changed(state="king"),
        changed(state=[]),
        changed(router="r" * 513),
        changed(address=None),
    ],
)
def test_what_is_no_record_is_refused(content):
    assert RouterRecord.decode(content) is None


def test_what_later_versions_add_is_passed_over():
    assert RouterRecord.decode(changed(load=0.5)) == RECORD
