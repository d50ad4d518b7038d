"""Header names that a flow may set in responses and calls: their syntax, and the reserved ones."""

from __future__ import annotations

import re
from typing import Final

FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
"""Source: RFC 9110, section 5.6.2 (token)."""

RESERVED_HEADERS: Final = frozenset(
    {
        "connection", "content-length", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection",
        "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Hop-by-hop fields (RFC 9110, section 7.6.1) and the length: the HTTP library sets them, a flow does not."""
