"""TLS of the edge: its limit of time, and the names in the certificates of senders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

HANDSHAKE_SECONDS: Final = 10.0


def certificate_names(certificate: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the names in a certificate as `SSLSocket.getpeercert` returns it; none without one.

    They are the subject's common name, and the alternative names.
    """
    found = certificate or {}
    names = [value for part in found.get("subject", ()) for name, value in part if name == "commonName"]
    names += [value for kind, value in found.get("subjectAltName", ()) if kind in ("DNS", "URI", "email")]
    return tuple(dict.fromkeys(names))
