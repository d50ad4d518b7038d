"""Which addresses are public, and how names are looked up."""

from __future__ import annotations

import errno
import ipaddress

import pytest
from support.cases import cases

from flowhook.security.address_policy import POLICY, AddressPolicy, is_public
from runner.outbound.dns import numeric_host, refused_status


@cases(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "198.18.0.1",
        "::",
        "::1",
        "fe80::1",
        "fc00::1",
        "fd00:ec2::254",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)
def test_addresses_that_are_not_of_the_public_internet(address):
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "64:ff9b::101:101", "::ffff:8.8.8.8"]
)
def test_addresses_that_are(address):
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (("192.0.2.1", 80), "192.0.2.1"),
        (("2001:db8::1", 80, 0, 0), "2001:db8::1"),
        (("fe80::1", 80, 0, 2), "fe80::1%2"),
        (("fe80::1%eth0", 80, 0, 2), "fe80::1%eth0"),
    ],
)
def test_an_address_keeps_its_scope(address, expected):
    assert numeric_host(address) == expected


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "1.1.1.1"])
def test_a_policy_that_permits_loopback_permits_this_machine_and_public_addresses(address):
    assert AddressPolicy.LOOPBACK.permits(ipaddress.ip_address(address))


@cases(
    "address",
    ["0.0.0.0", "::", "10.1.2.3", "169.254.169.254", "fe80::1", "64:ff9b::7f00:1", "2002:7f00:1::", "fd00::1"],
)
def test_and_nothing_else(address):
    assert not AddressPolicy.LOOPBACK.permits(ipaddress.ip_address(address))
    assert AddressPolicy.ALL.permits(ipaddress.ip_address(address))


def test_a_connection_is_refused_for_good_when_the_policy_alone_prevents_it():
    refused = OSError(errno.EACCES, POLICY)
    down = OSError(errno.ECONNREFUSED, "Connect call failed")
    both = OSError(f"Multiple exceptions: {refused}, {down}")  # as the connecting of several addresses ends
    assert [refused_status(problem) for problem in (refused, down, both)] == [403, None, None]
