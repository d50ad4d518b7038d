"""Plans connections: some well-formed requests, and often a broken one after them.

A broken request ends the connection, and an edge reads nothing after it.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fuzz.drafts import Drafts
from fuzz.edges import KEYED, PLAIN, PROXIED, TLS
from fuzz.flows import LARGE, LATE, SEES_ALL, WAITS
from fuzz.mutations import Mutations
from fuzz.uploads import Uploads

UPLOADS: Final = 0.015
"""Share of connections with a large body."""

RESETS: Final = 0.03
"""Share of connections that are reset instead of being ended."""

EDGES: Final = ((PLAIN, 0.86), (KEYED, 0.04), (PROXIED, 0.08), (TLS, 0.02))
"""Shares of connections by edge."""

KEYED_FLOWS: Final = ("aws-sns", "paypal", "plaid")
WEIGHTS: Final[Mapping[str, float]] = {SEES_ALL: 4.0, LATE: 0.1, WAITS: 0.5, **dict.fromkeys(LARGE, 0.3)}
"""Share of requests of a flow, relative to others."""

_GARBAGE_OF_TLS: Final = (
    b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03", b"\x15\x03\x03\x00\x02\x02\x28", b"\x16\x03\x01\xff\xff",
    b"\x80\x2e\x01",
)  # fmt: skip
_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"


@dataclass(slots=True)
class Plan:
    """One connection.

    Attributes:
        edge: name of the edge.
        source: address of the sender.
        preface: bytes before HTTP.
        pieces: the rest, as it is written.
        made: number of requests.
        whole: all requests are whole, so each has to be answered unless an answer ends the connection.
        large: a large body is among them.
        reset: the sender resets the connection without waiting for answers.
        secure: with TLS.
    """

    edge: str
    source: str
    preface: bytes
    pieces: list[bytes]
    made: int
    whole: bool
    large: bool = False
    reset: bool = False
    secure: bool = False

    @property
    def sent(self) -> bytes:
        """All bytes."""
        return self.preface + b"".join(self.pieces)


class Plans:
    """Generates plans, each from the seed and its number; only the time, keys and one-time URLs differ."""

    def __init__(self, drafts: Drafts, source: random.Random, seed: int) -> None:
        """Take every decision from `source`, which `drafts` uses as well."""
        self._drafts = drafts
        self._random = source
        self._seed = seed
        self._number = 0
        source.seed(seed)
        drafts.payloads.fill()
        self._mutations = Mutations(source)
        self._uploads = Uploads(drafts, source)
        self._names = list(drafts.flows)
        self._weights = [WEIGHTS.get(name, 1.0) for name in self._names]

    def next(self) -> Plan:
        """Return the plan of the next connection."""
        self._number += 1
        self._random.seed(self._seed * 2**40 + self._number)
        chance, pick = self._random.random, self._random.choice
        edge = self._random.choices([name for name, _ in EDGES], [share for _, share in EDGES])[0]
        # each from another address: one has 28,000 ports, and each of them rests for a minute
        source = f"127.0.0.{self._random.randrange(1, 255)}"
        large = chance() < UPLOADS
        requests = [
            self._drafts.encoded(self._drafts.near(self._flow(edge))) for _ in range(pick((0, 1, 2, 4, 8, 16, 24)))
        ]
        whole = bool(requests) and not large and chance() < 0.4
        if large:
            requests.append(self._uploads.make())
        elif not whole:
            requests.append(self._broken(edge))
        secure = edge == TLS and chance() < 0.8
        if secure:  # over TLS there are no half-closed connections, so that an answer has to end it
            whole, large = True, False
            requests = [*requests[:-1], b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"]
        preface = self._preface(edge, secure=secure)
        pieces = self._mutations.pieces(b"".join(requests))
        whole = whole and edge != PROXIED and not (edge == TLS and not secure)
        return Plan(edge, source, preface, pieces, len(requests), whole, large, chance() < RESETS, secure)

    def _flow(self, edge: str) -> str:
        if edge == KEYED and self._random.random() < 0.7:
            return self._random.choice(KEYED_FLOWS)
        return self._random.choices(self._names, self._weights)[0]

    def _broken(self, edge: str) -> bytes:
        request = self._drafts.encoded(self._drafts.valid(self._flow(edge)))
        return self._mutations.break_up(request)

    def _preface(self, edge: str, *, secure: bool) -> bytes:
        if edge == PROXIED:
            header = self._proxy_header()
            return self._mutations.break_up(header) if self._random.random() < 0.25 else header
        if edge == TLS and not secure:
            return self._random.choice(_GARBAGE_OF_TLS) + self._random.randbytes(self._random.choice((0, 5, 300)))
        return b""

    def _proxy_header(self) -> bytes:
        pick = self._random.choice
        if self._random.random() < 0.5:
            return pick(
                (
                    b"PROXY TCP4 192.0.2.7 127.0.0.1 5 80\r\n", b"PROXY UNKNOWN\r\n", b"PROXY TCP4 x y 1 2\r\n",
                    b"PROXY TCP6 2001:db8::1 ::1 5 80\r\n", b"PROXY TCP4 127.0.0.9 127.0.0.1 5 80\r\n",
                    b"PROXY UNKNOWN " + b"x" * 91 + b"\r\n", b"PROXY TCP6 ::ffff:1.2.3.4%eth0 ::1 5 80\r\n",
                )
            )  # fmt: skip
        family, addresses = pick(((0x11, 12), (0x21, 36), (0x00, 0), (0x31, 216), (0x12, 12), (0xFF, 3)))
        length = pick((addresses, addresses, addresses + 7, 0, 2048, 2049, 65_535))
        command = pick((0x21, 0x21, 0x21, 0x20, 0x22, 0x11))
        return _SIGNATURE + struct.pack(">BBH", command, family, length) + self._random.randbytes(length)
