"""Determines the sender behind trusted proxies: its address, and the URL that it called.

A proxy appends to the right of what it received. So the fields are read from the right, for as long as the address is
that of a trusted proxy; the first other address is the sender's. Entries further left can be forged. Without trusted
proxies the fields are ignored.

Proxies write one of the two kinds of fields and forward the other as the sender wrote it. It is unknown which one they
write. So if both are present and name different senders, or one can't be parsed, the sender is `UNKNOWN`, an address
that no allow list includes.

Source: RFC 7239 (Forwarded); `X-Forwarded-For`, `-Proto` and `-Host` are de-facto standards
(https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/X-Forwarded-For).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

import attrs

from flowhook.errors import InvalidError

MAX_HOPS: Final = 32  # consecutive proxies that are considered
MAX_PAIRS: Final = 256  # parameters of `Forwarded`; a value with more of them is not parsed
# address of a sender about whom the fields contradict each other
UNKNOWN: Final = IPv4Address("0.0.0.0")  # noqa: S104 - no socket is bound to it
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_HOST: Final = re.compile(r"[A-Za-z0-9\-._~\[\]:]{1,300}")
_PAIR: Final = re.compile(r'\s*([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^;,"\s]+)\s*')
_PORT: Final = re.compile(r"^(\[[0-9A-Fa-f:.]+\]|[0-9.]+)(?::[0-9]{1,5})?$")


class ClientOrigin(NamedTuple):
    """The origin of a request: the sender's address, and the scheme and host it called (host empty: as in Host)."""

    address: Address
    scheme: str
    host: str = ""


@attrs.define(eq=False, repr=False)
class TrustedProxies:
    """The set of trusted proxies."""

    _networks: Sequence[Network] = ()

    def __bool__(self) -> bool:
        return bool(self._networks)

    def trusts(self, address: Address) -> bool:
        return any(address in network for network in self._networks)

    def origin(self, address: Address, scheme: str, headers: Sequence[tuple[str, bytes]]) -> ClientOrigin:
        """Return the origin of a request from a peer's address, over `http` or `https`, with lower-case header names.

        If `forwarded` and `x-forwarded-for` name the same sender, scheme and host are those of `forwarded`.
        """
        if not self.trusts(address):
            return ClientOrigin(address, scheme)
        listed = self._followed(_x_forwarded(headers), address, scheme)
        forwarded = _joined(headers, "forwarded")
        if not forwarded:
            return listed
        hops = _forwarded(forwarded)
        origin = ClientOrigin(UNKNOWN, scheme) if hops is None else self._followed(hops, address, scheme)
        if _joined(headers, "x-forwarded-for") and origin.address != listed.address:
            return ClientOrigin(UNKNOWN, scheme)
        return origin

    def _followed(self, hops: Sequence[Mapping[str, str]], address: Address, scheme: str) -> ClientOrigin:
        origin = ClientOrigin(address, scheme)
        for hop in reversed(hops[-MAX_HOPS:]):
            sender = _address(hop.get("for", ""))
            origin = ClientOrigin(
                origin.address if sender is None else sender,
                hop["proto"] if hop.get("proto") in ("http", "https") else origin.scheme,
                hop["host"] if _HOST.fullmatch(hop.get("host", "")) else origin.host,
            )
            if sender is None or not self.trusts(sender):
                break
        return origin


def parse_networks(text: str) -> tuple[Network, ...]:
    """Parse a comma-separated list of networks."""
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise InvalidError(
            f"trusted proxies are networks such as 10.0.0.0/8: {error}", reason="NETWORK_INVALID"
        ) from None


def _joined(headers: Sequence[tuple[str, bytes]], name: str) -> str:
    return ",".join(value.decode("latin-1") for key, value in headers if key == name)


def _forwarded(text: str) -> list[dict[str, str]] | None:
    """Return the elements of Forwarded; None when it can't be parsed."""
    hops: list[dict[str, str]] = [{}]
    position = 0
    if text.count("=") > MAX_PAIRS:
        return None
    while position < len(text):
        pair = _PAIR.match(text, position)
        if pair is None:
            return None
        value = pair[2]
        hops[-1].setdefault(pair[1].lower(), re.sub(r"\\(.)", r"\1", value[1:-1]) if value[0] == '"' else value)
        position = pair.end()
        separator = text[position : position + 1]
        if separator == ",":
            hops.append({})
        elif separator not in ("", ";"):
            return None
        position += 1
    return hops


def _x_forwarded(headers: Sequence[tuple[str, bytes]]) -> list[dict[str, str]]:
    """Return the same of `X-Forwarded-…`; a proxy may extend the list of addresses but overwrite the other fields."""
    # parts further left are ignored, however many there are
    senders, protos, hosts = (
        _joined(headers, f"x-forwarded-{name}").rsplit(",", MAX_HOPS)[-MAX_HOPS:] for name in ("for", "proto", "host")
    )

    def at(values: list[str], index: int) -> str:
        return values[index if len(values) == len(senders) else -1].strip()

    return [
        {"for": sender.strip(), "proto": at(protos, index).lower(), "host": at(hosts, index)}
        for index, sender in enumerate(senders)
    ]


def _address(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        match = _PORT.match(text)
        if match is None:
            return None
        try:
            address = ip_address(match[1].strip("[]"))
        except ValueError:
            return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
