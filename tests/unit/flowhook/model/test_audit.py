"""The reason that a caller gives: sent with its calls, whatever characters it has."""

from __future__ import annotations

import pytest

from flowhook.model.audit import MAX_AUDIT_REASON, REASON_KEY, audit_reason, reason_metadata


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("für Ann", "für Ann".encode()),
        ("caf\udce9", b"caf?"),  # an argument in Latin-1, as Python decodes it
        ("𝄞" * 1000, "𝄞".encode() * MAX_AUDIT_REASON),
    ],
)
def test_a_reason_is_sent_as_utf_8(text, sent):
    with audit_reason(text):
        assert reason_metadata() == ((REASON_KEY, sent),)
    assert reason_metadata() == ()


def test_an_empty_reason_is_not_sent_and_does_not_replace_one():
    with audit_reason("outer"), audit_reason(""):
        assert reason_metadata() == ((REASON_KEY, b"outer"),)
