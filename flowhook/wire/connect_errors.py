"""Probable causes of failed gRPC connections, mostly TLS on one side only."""

from __future__ import annotations

import re
from typing import Final

_CAUSES: Final = (
    (
        "Hostname Verification Check failed",
        ": its certificate is not valid for this host name; connect by a name that the certificate contains",
    ),
    (
        "Tls handshake failed",
        ": the TLS handshake failed; check that it uses TLS, with a certificate of an authority in the CA file",
    ),
    ("Socket closed", ": it closed the connection; check whether it requires TLS, or a client certificate"),
)
"""Parts of gRPC's messages, with the probable cause of each."""
_UNTRUSTED: Final = re.compile(r"CERTIFICATE_VERIFY_FAILED: ([a-z -]+)")


def probable_cause(details: str) -> str:
    """Return the cause for the details of a gRPC status, to append to an error message; empty if it is unknown."""
    if untrusted := _UNTRUSTED.search(details):
        return f": its certificate can't be verified ({untrusted[1]}); check that an authority in the CA file issued it"
    return next((cause for part, cause in _CAUSES if part in details), "")
