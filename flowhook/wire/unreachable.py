"""What most probably is wrong where gRPC says that no connection was to be had: TLS on one side only, mostly."""

from __future__ import annotations

import re
from typing import Final

_CAUSES: Final = (
    (
        "Hostname Verification Check failed",
        ": its certificate is not for this name; reach it by one that the certificate has",
    ),
    ("Tls handshake failed", ": TLS failed; does it speak TLS, with a certificate of an authority in the CA file?"),
    ("Socket closed", ": it hangs up; does it ask for TLS, or for a client certificate?"),
)
"""What gRPC says of it, and what that means."""
_UNTRUSTED: Final = re.compile(r"CERTIFICATE_VERIFY_FAILED: ([a-z -]+)")


def cause_of(said: str) -> str:
    """Return what is behind the details of a gRPC status, to be put behind what failed; empty: nothing is known."""
    if untrusted := _UNTRUSTED.search(said):
        return f": its certificate can't be trusted ({untrusted[1]}); is it of an authority in the CA file?"
    return next((cause for part, cause in _CAUSES if part in said), "")
