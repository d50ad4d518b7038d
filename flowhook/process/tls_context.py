"""SSL contexts with the certificates that are trusted by commands and the console when they connect to an edge.

Source: RFC 9110, section 4.3.4; https://docs.python.org/3/library/ssl.html.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from flowhook.errors import InvalidError

REASON = "TLS_FILE_UNREADABLE"


def context_for_authorities(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context that trusts these PEM certificates and what they sign; None: those of the system. Blocking.

    Raises:
        InvalidError: the file can't be read, or contains no certificate (`TLS_FILE_UNREADABLE`).
    """
    if ca_file is None:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a certificate that the user names need not be a root
    try:
        context.load_verify_locations(ca_file)
    except OSError as error:  # an SSLError is one
        raise InvalidError(f"{ca_file}: {_cause(error)}", reason=REASON) from None
    return context


def context_for_certificate(cert_file: Path) -> ssl.SSLContext:
    """Return a context that trusts only the first certificate of a PEM file, whatever its name; else as above.

    It identifies an edge of a cluster on this machine. The certificate of such an edge is for the host that senders
    use, seldom for the address by which this machine reaches it. The other certificates of the file, its issuers, are
    not trusted: since names are not checked, that would trust every certificate that one of them signed.
    """
    from cryptography import x509  # noqa: PLC0415 - loads OpenSSL a second time, which only edges with TLS need
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 - see above

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        certificate = x509.load_pem_x509_certificates(cert_file.read_bytes())[0]
        context.load_verify_locations(cadata=certificate.public_bytes(Encoding.DER))
    except OSError as error:
        raise InvalidError(f"{cert_file}: {_cause(error)}", reason=REASON) from None
    except ValueError:
        raise InvalidError(f"{cert_file}: it contains no PEM certificate", reason=REASON) from None
    return context


def _cause(error: OSError) -> str:
    return "it contains no PEM certificate" if isinstance(error, ssl.SSLError) else error.strerror or str(error)
