"""Probable causes of failed gRPC connections, mostly TLS on one side only."""

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
"""Parts of gRPC's messages, with the probable cause of each."""
_UNTRUSTED: Final = re.compile(r"CERTIFICATE_VERIFY_FAILED: ([a-z -]+)")


def probable_cause(said: str) -> str:
    """Return the cause for the details of a gRPC status, to append to an error message; empty if it is unknown."""
    if untrusted := _UNTRUSTED.search(said):
        return f": its certificate can't be trusted ({untrusted[1]}); is it of an authority in the CA file?"
    return next((cause for part, cause in _CAUSES if part in said), "")
