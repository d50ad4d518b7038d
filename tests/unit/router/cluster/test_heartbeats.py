"""Signatures of heartbeats."""

import pytest

from router.cluster.heartbeats import TAG_BYTES, HeartbeatSigner


def test_what_was_signed_is_verified():
    signer = HeartbeatSigner(b"k" * 32)
    assert signer.verify(signer.sign(b"content")) == b"content"
    assert signer.verify(signer.sign(b"")) == b""


@pytest.mark.parametrize("change", [0, TAG_BYTES - 1, TAG_BYTES, -1])
def test_what_was_changed_is_refused(change):
    signer = HeartbeatSigner(b"k" * 32)
    message = bytearray(signer.sign(b"content"))
    message[change] ^= 1
    assert signer.verify(bytes(message)) is None


@pytest.mark.parametrize("message", [b"", b"x", b"{}", bytes(TAG_BYTES), HeartbeatSigner(b"o" * 32).sign(b"content")])
def test_what_another_key_or_none_signed_is_refused(message):
    assert HeartbeatSigner(b"k" * 32).verify(message) is None
