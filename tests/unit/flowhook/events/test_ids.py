"""Event IDs: what they carry, and those that are derived."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowhook.events import ids

SLOTS = st.integers(0, 255)
TIMES = st.integers(0, (1 << 48) - 1)


@given(SLOTS, TIMES, st.text())
def test_a_derived_id_is_the_same_every_time_and_carries_its_slot_and_time(slot, now_ms, name):
    derived = ids.derive(slot, now_ms, name)
    assert derived == ids.derive(slot, now_ms, name)
    assert (ids.slot_of_event(derived), ids.time_ms_of(derived)) == (slot, now_ms)
    assert ids.decode(derived) >> 76 & 0xF == 7
    assert ids.decode(derived) >> 62 & 0b11 == 0b10


@given(SLOTS, TIMES, st.text(), st.text())
def test_derived_ids_of_different_names_differ(slot, now_ms, name, other):
    assert (ids.derive(slot, now_ms, name) == ids.derive(slot, now_ms, other)) == (name == other)


def test_minted_ids_differ_and_sort_by_time():
    minted = [ids.mint(7, now_ms=moment) for moment in (1, 1, 2, 1 << 47)]
    assert len(set(minted)) == 4
    assert [ids.time_ms_of(each) for each in sorted(minted)] == [1, 1, 2, 1 << 47]


@given(SLOTS, TIMES)
def test_the_time_and_the_rest_of_an_id_are_those_of_its_uuid(slot, now_ms):
    event_id = ids.mint(slot, now_ms=now_ms)
    value = ids.decode(event_id)
    assert (value >> 80, value & 0xFF) == (now_ms, slot)
    digits = "0123456789abcdefghjkmnpqrstvwxyz"
    assert event_id == "evt_" + "".join(digits[value >> shift & 31] for shift in range(125, -1, -5))
