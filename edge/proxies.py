"""Who is behind a proxy: the sender's address, and the URL that it called, as proxies that are trusted tell.

What a proxy adds stands to the right of what it received. So the fields are read from the right, for as long as the
address is that of a trusted proxy: the first that is not is the sender's. What lies further left anybody may have
written. Without trusted proxies the fields mean nothing.

Proxies write one of the two kinds of fields and pass the other on as the sender wrote it. Which one it is nobody knows;
so where both are there and name different senders, or one can't be read, the sender is `UNKNOWN`, whom no list lets in.

Source: RFC 7239 (Forwarded); `X-Forwarded-For`, `-Proto` and `-Host` are de-facto standards
(https://developer.mozilla.org/docs/Web/HTTP/Reference/Headers/X-Forwarded-For).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

from flowhook.errors import InvalidError

MAX_HOPS: Final = 32
"""Proxies in a row that are looked at."""

MAX_PAIRS: Final = 256
"""Parameters of `Forwarded`; one with more of them can't be read."""

UNKNOWN: Final = IPv4Address("0.0.0.0")  # noqa: S104 - bound to by nobody
"""Of a sender about whom the fields contradict themselves."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_HOST: Final = re.compile(r"[A-Za-z0-9\-._~\[\]:]{1,300}")
_PAIR: Final = re.compile(r'\s*([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^;,"\s]+)\s*')
_PORT: Final = re.compile(r"^(\[[0-9A-Fa-f:.]+\]|[0-9.]+)(?::[0-9]{1,5})?$")


class Origin(NamedTuple):
    """Where a request came from: the sender's address, and scheme and host (empty: as the request says) it called."""

    address: Address
    scheme: str
    host: str = ""


class Proxies:
    """The proxies that are trusted."""

    def __init__(self, networks: Sequence[Network] = ()) -> None:
        self._networks = tuple(networks)

    def __bool__(self) -> bool:
        """Whether any is."""
        return bool(self._networks)

    def trusts(self, address: Address) -> bool:
        """Whether what comes from an address may say who is behind it."""
        return any(address in network for network in self._networks)

    def origin(self, address: Address, scheme: str, headers: Sequence[tuple[str, bytes]]) -> Origin:
        """Return where a request came from.

        Args:
            address: of the peer.
            scheme: `http` or `https`, of the connection.
            headers: lower-case names and values. Of a sender that `forwarded` and `x-forwarded-for` both name, the
                former says the rest.
        """
        if not self.trusts(address):
            return Origin(address, scheme)
        forwarded, listed = _joined(headers, "forwarded"), _joined(headers, "x-forwarded-for")
        if not forwarded:
            return self._followed(_x_forwarded(headers), address, scheme)
        hops = _forwarded(forwarded)
        origin = Origin(UNKNOWN, scheme) if hops is None else self._followed(hops, address, scheme)
        if listed and origin.address != self._followed(_x_forwarded(headers), address, scheme).address:
            return Origin(UNKNOWN, scheme)
        return origin

    def _followed(self, hops: Sequence[Mapping[str, str]], address: Address, scheme: str) -> Origin:
        """Return where the hops lead, from the last to the first."""
        origin = Origin(address, scheme)
        for hop in reversed(hops[-MAX_HOPS:]):
            sender = _address(hop.get("for", ""))
            origin = Origin(
                origin.address if sender is None else sender,
                hop["proto"] if hop.get("proto") in ("http", "https") else origin.scheme,
                hop["host"] if _HOST.fullmatch(hop.get("host", "")) else origin.host,
            )
            if sender is None or not self.trusts(sender):
                break
        return origin


def parse_networks(text: str) -> tuple[Network, ...]:
    """Return networks that are written with commas between them.

    Raises:
        InvalidError: one of them is none (`NETWORK_INVALID`).
    """
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise InvalidError(
            f"trusted proxies are networks such as 10.0.0.0/8: {error}", reason="NETWORK_INVALID"
        ) from None


def _joined(headers: Sequence[tuple[str, bytes]], name: str) -> str:
    return ",".join(value.decode("latin-1") for key, value in headers if key == name)


def _last_of(text: str) -> list[str]:
    """Return the last `MAX_HOPS` parts: what lies further left is looked at by nobody, whatever there is of it."""
    return text.rsplit(",", MAX_HOPS)[-MAX_HOPS:]


def _forwarded(text: str) -> list[dict[str, str]] | None:
    """Return the elements of Forwarded; None when it can't be read."""
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
    """Return the same of `X-Forwarded-…`; a proxy may keep a list of addresses and set the others anew."""
    senders, protos, hosts = (_last_of(_joined(headers, f"x-forwarded-{name}")) for name in ("for", "proto", "host"))

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
