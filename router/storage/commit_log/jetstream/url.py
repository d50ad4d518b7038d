"""Parses the URL of the log, `nats://user:password@host:4222,host:4222?replicas=3&...`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, NoReturn
from urllib.parse import parse_qsl, unquote

from flowhook.errors import InvalidError

CLIENT_PORT: Final = 4222
MONITOR_PORT: Final = 8222
REPLICAS: Final = (1, 3, 5)
PARAMETERS: Final = ("fsync", "max_bytes", "monitor", "prefix", "replicas")

_PREFIX = re.compile(r"[A-Z][A-Z0-9_]{0,31}", re.ASCII)
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(:(?P<port>[0-9]{1,5}))?")
_BYTES = re.compile(r"(?P<number>[0-9]{1,15})(?P<unit>[KMGT]?)", re.ASCII)
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True, slots=True)
class LogUrl:
    """A parsed URL."""

    servers: tuple[str, ...]  # `host:port` of each server
    tls: bool  # whether connections are encrypted
    user: str  # name to log in with; empty: none
    password: str = field(repr=False)  # its password; without a user: a token, which the URL has in place of both
    replicas: int  # copies of each stream that are asked for
    trust_fsync: bool  # whether it is taken on trust that servers sync each write
    prefix: str  # beginning of the names of streams and buckets
    # most bytes that the log may have; None: `DEFAULT_MAX_BYTES` for a new one, any for one that exists
    max_bytes: int | None
    monitors: tuple[str, ...]  # `host:port` of each server's monitoring endpoints


def parse_url(url: str) -> LogUrl:
    """Parse a URL. InvalidError: it is no such URL (`LOG_URL_INVALID`); the message names the part, and no password."""
    scheme, _, rest = url.partition("://")  # urlsplit takes one host only
    location, _, query = rest.partition("?")
    if scheme not in ("nats", "tls"):
        _refuse("begins with nats:// or tls://")
    if "/" in location.rstrip("/") or "#" in rest:
        _refuse(
            "has no path and no fragment: parameters follow a `?`, and `/`, `?`, `#` in a password are %2F, %3F, %23"
        )
    if "@" in query:
        _refuse("has no `@` in its parameters: `?` in a password is %3F")
    login, _, hosts = location.rstrip("/").rpartition("@")
    user, _, password = login.partition(":")
    if not password:
        user, password = "", user
    servers = _addresses(hosts, CLIENT_PORT)
    pairs = parse_qsl(query, keep_blank_values=True)
    parameters = dict(pairs)
    unknown = sorted(parameters.keys() - set(PARAMETERS))
    if unknown or len(parameters) != len(pairs):
        _refuse(f"takes each of the parameters {', '.join(PARAMETERS)} once; unknown: {', '.join(unknown) or 'none'}")
    if parameters.get("fsync", "trust") != "trust":
        _refuse("takes `fsync=trust` only: leave it out to have the servers checked")
    if "replicas" in parameters and parameters["replicas"] not in map(str, REPLICAS):
        _refuse(f"takes `replicas` of {', '.join(map(str, REPLICAS))}")
    prefix = parameters.get("prefix", "FLOWHOOK")
    if not _PREFIX.fullmatch(prefix):
        _refuse("takes a `prefix` of A-Z, 0-9 and _, at most 32 characters, that begins with a letter")
    hostnames = ",".join(server.rpartition(":")[0] for server in servers)
    return LogUrl(
        servers=servers,
        tls=scheme == "tls",
        user=unquote(user),
        password=unquote(password),
        replicas=int(parameters.get("replicas", 3)),
        trust_fsync="fsync" in parameters,
        prefix=prefix,
        max_bytes=_bytes(parameters["max_bytes"]) if "max_bytes" in parameters else None,
        monitors=_addresses(parameters.get("monitor", hostnames), MONITOR_PORT),
    )


def _addresses(hosts: str, default_port: int) -> tuple[str, ...]:
    found = [_HOST.fullmatch(host.removeprefix("http://")) for host in hosts.split(",")]
    addresses = tuple(f"{match['host']}:{match['port'] or default_port}" for match in found if match)
    if len(addresses) != len(found):
        _refuse("names servers as host:port, separated by commas")
    return addresses


def _bytes(value: str) -> int:
    match = _BYTES.fullmatch(value)
    number = int(match["number"]) * _UNITS[match["unit"]] if match else 0
    if not number:
        _refuse("takes `max_bytes` as a number of bytes above 0, such as 500000000, 512M or 2G")
    return number


def _refuse(rule: str) -> NoReturn:
    raise InvalidError(f"the URL of the log {rule}", reason="LOG_URL_INVALID")
