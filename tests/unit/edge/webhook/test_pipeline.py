"""Senders are told apart by what they prove, or by where they are."""

from __future__ import annotations

from ipaddress import ip_address

from edge.webhook.pipeline import sender_identity
from flowhook.signatures.types import Match


def test_a_sender_is_known_by_its_credential_or_by_its_address():
    here, there = ip_address("192.0.2.1"), ip_address("192.0.2.2")
    one, other = Match("api_key", "one"), Match("api_key", "other")
    assert sender_identity(one, here, authenticated=True) == sender_identity(one, there, authenticated=True)
    assert sender_identity(one, here, authenticated=True) != sender_identity(other, here, authenticated=True)
    assert sender_identity(one, here, authenticated=False) == sender_identity(other, here, authenticated=False)
    assert sender_identity(one, here, authenticated=False) != sender_identity(one, there, authenticated=False)


def test_the_addresses_of_one_ipv6_network_are_one_sender():
    senders = {
        sender_identity(Match("none", ""), ip_address(address), authenticated=False)
        for address in ("2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1")
    }
    assert len(senders) == 2
