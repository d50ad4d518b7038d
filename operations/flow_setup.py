"""How a flow is reached, for operators: URLs, what senders must be set up with, secrets, limits, times."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class SecretState:
    """A secret that a flow names. `updated_at`: when it was set; null: it is not set."""

    name: str
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class AuthSetup:
    """A kind of credentials: what to enter at the sender, its page about signatures (or empty), and its secrets."""

    kind: str
    steps: tuple[str, ...]
    source: str
    secrets: tuple[SecretState, ...]


@dataclass(frozen=True, slots=True)
class EndpointSetup:
    """A URL of a flow. `callback`: its name, or empty. `auth`: kinds of which one must pass; none: anybody may send.

    `command`: how to send to it from a shell. Without a public URL of the edges, `url` begins with the path.
    """

    callback: str
    url: str
    methods: tuple[str, ...]
    auth: tuple[AuthSetup, ...]
    command: str


@dataclass(frozen=True, slots=True)
class FlowLimit:
    """A limit of a flow, as text with its unit, and whether its file says so."""

    name: str
    value: str
    is_default: bool


@dataclass(frozen=True, slots=True)
class FlowSetup:
    """How a flow is reached: its URLs, all secrets that it names, its limits, and when its schedule starts it next."""

    endpoints: tuple[EndpointSetup, ...]
    secrets: tuple[SecretState, ...]
    limits: tuple[FlowLimit, ...]
    next_times: tuple[datetime, ...]
