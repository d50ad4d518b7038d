"""Which addresses are public, and what of a URL may be shown."""

from __future__ import annotations

import ipaddress

import pytest
from yarl import URL

from runner.outbound import is_public, public_url


@pytest.mark.parametrize(
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


def test_a_url_is_shown_without_credentials_query_and_fragment():
    assert public_url(URL("https://u:p@x.example:8443/a?key=s#f")) == "https://x.example:8443/a"


def test_the_url_of_a_flow_with_secrets_is_shown_without_its_path():
    assert public_url(URL("https://u:p@x.example:8443/a?key=s#f"), discreet=True) == "https://x.example:8443"
