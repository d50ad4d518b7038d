"""TLS of the edge: its limit of time, and the names in the certificates of senders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

HANDSHAKE_SECONDS: Final = 10.0


def certificate_names(certificate: Mapping[str, Any] | None, *, common_names: bool = False) -> tuple[str, ...]:
    """Return the names in a certificate as `SSLSocket.getpeercert` returns it; none without one.

    They are the alternative names. The subject's common name counts only in a certificate without any: authorities
    check the alternative names of what they sign, and not all of them check the common name.

    Args:
        certificate: the certificate, verified by TLS.
        common_names: whether the common name counts in any certificate.

    Source: RFC 9525, section 2; RFC 6125, section 6.4.4.
    """
    found = certificate or {}
    alternatives = found.get("subjectAltName", ())
    names = [value for kind, value in alternatives if kind in ("DNS", "URI", "email")]
    if common_names or not alternatives:
        names += [value for part in found.get("subject", ()) for name, value in part if name == "commonName"]
    return tuple(dict.fromkeys(names))
