"""Frame kinds of the protocol with an evaluating process (see `flowhook.offload.frames`)."""

from __future__ import annotations

import struct
from typing import Final

PROGRAM: Final = b"p"
"""Request: source of a jq program, input."""
SCHEMA: Final = b"s"
"""Request: JSON Schema, data."""
EVENT: Final = b"e"
"""Request: event (`convert.event_to_bytes`), options for building its input (JSON), contents of attachments."""
RESULT: Final = b"r"
"""Response: CPU time in ns (u64, big-endian), result."""
NOTHING: Final = b"n"
"""Response: CPU time; there is no result."""
FAILURE: Final = b"f"
"""Response: CPU time, message."""

CPU: Final = struct.Struct(">Q")
