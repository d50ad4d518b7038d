"""Limits of the Attach protocol, and the error that ends a stream whose peer exceeds one."""

from __future__ import annotations

from typing import Final

from flowhook import limits
from flowhook.errors import InvalidError

MAX_CREDIT: Final = 1024
"""Maximum credit (assignments) that one message grants."""

MAX_BUNDLE_BYTES: Final = limits.MAX_MESSAGE_BYTES // 4
"""Maximum size of a bundle; larger sets of messages are sent one by one."""

MAX_RUNNER_ID: Final = 63
MAX_COMPONENTS: Final = 1000
MAX_COMPONENT_NAME: Final = 255
"""Characters of the name of a function."""

MAX_HELD_LEASES: Final = 64 * 1024
MAX_LEASE_BYTES: Final = 64
"""Bounds of the leases that a runner claims to hold; it works on a few thousand executions at most."""

MAX_WAIT_BYTES: Final = limits.MIB
"""Serialized size of all subscriptions of an execution; they contain expected values from the flow's data."""

MAX_KEY_BYTES: Final = 64 * limits.KIB
"""Bytes of a subscription's key, which becomes the key of a journal entry."""

MAX_RETRY_KEYS: Final = 20
MAX_RETRY_KEYS_BYTES: Final = 128 * limits.KIB
"""Bounds of the keys of waits for retries that an operator may end."""

MAX_EXECUTION_ID: Final = 64
MAX_EVENT_KEY: Final = 64

MAX_ERROR_TEXT: Final = limits.MAX_ERROR_DETAIL_BYTES
"""Characters to which each text of an error is cut."""


def protocol_violation(message: str) -> InvalidError:
    """Return the error that ends the stream of a peer that violates the protocol."""
    return InvalidError(message, reason="ATTACH_PROTOCOL_VIOLATION")
