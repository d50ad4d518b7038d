"""Which certificate of an edge a command believes.

Source: RFC 9110, section 4.3.4; https://docs.python.org/3/library/ssl.html.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from flowhook.errors import InvalidError

REASON = "TLS_FILE_UNREADABLE"


def authorities(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context for what these PEM certificates sign, or are; those of the system when absent. Blocking.

    Raises:
        InvalidError: the file can't be read, or holds no certificate (`TLS_FILE_UNREADABLE`).
    """
    if ca_file is None:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # whoever names a certificate believes that one
    try:
        context.load_verify_locations(ca_file)
    except OSError as error:  # an SSLError is one
        raise InvalidError(f"{ca_file}: {_cause(error)}", reason=REASON) from None
    return context


def certificate_itself(cert_file: Path) -> ssl.SSLContext:
    """Return a context for a server that shows the first certificate of a PEM file, whatever its name. Blocking.

    That is how an edge of a cluster on this machine is known: its certificate is for the host that senders use, seldom
    for the address that this machine reaches it at. What else is in the file, its issuers, is not believed: without
    regard to names that would be everybody's certificate that one of them signed.

    Raises:
        InvalidError: the file can't be read, or holds no certificate (`TLS_FILE_UNREADABLE`).
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        certificate = x509.load_pem_x509_certificates(cert_file.read_bytes())[0]
        context.load_verify_locations(cadata=certificate.public_bytes(Encoding.DER))
    except OSError as error:
        raise InvalidError(f"{cert_file}: {_cause(error)}", reason=REASON) from None
    except ValueError:
        raise InvalidError(f"{cert_file}: there is no PEM certificate in it", reason=REASON) from None
    return context


def _cause(error: OSError) -> str:
    return "there is no PEM certificate in it" if isinstance(error, ssl.SSLError) else error.strerror or str(error)
