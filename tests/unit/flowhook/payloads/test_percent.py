"""Escapes are undone as the standard library undoes them."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from hypothesis import given
from hypothesis import strategies as st

from flowhook.payloads.percent import percent_decode


@given(st.lists(st.sampled_from(list(b"%=24dDfFgx\r\n_ \xff\0")), max_size=14).map(bytes))
def test_any_bytes_give_what_the_standard_library_gives(data):
    assert percent_decode(data) == unquote_to_bytes(data)
