"""Each sender has a rate of its own, and there is a bound to how many are remembered."""

from __future__ import annotations

from ipaddress import ip_address

from edge.webhook.sender_rate_limiter import SenderRateLimiter, sender_identity
from flowhook.document.models.webhook import RateLimit
from flowhook.signatures import Match


def rates(**options):
    return SenderRateLimiter(RateLimit(per_second=1, burst=2), **options)


def test_one_sender_takes_nothing_from_another():
    senders = rates()
    assert [senders.take("a", 0.0) for _ in range(3)] == [0, 0, 1]
    assert [senders.take("b", 0.0) for _ in range(3)] == [0, 0, 1]
    assert senders.take("a", 1.0) == 0


def test_whoever_sends_on_is_not_forgotten():
    senders = rates(max_senders=3)
    for number in range(10):
        senders.take("busy", 0.0)
        senders.take(f"other-{number}", 0.0)
    assert senders.take("busy", 0.0) == 1
    assert senders.take("other-0", 0.0) == 0


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
