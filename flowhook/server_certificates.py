"""Certificates of a TLS server: one SSL context, whose certificate is reloaded when its files change.

Source: RFC 8446; https://docs.python.org/3/library/ssl.html.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from flowhook import logs
from flowhook.errors import InvalidError

log = logs.get_logger(__name__)


class Certificates:
    """The certificate of a server, and the authorities that sign those of its clients.

    Attributes:
        context: context of all connections; those that begin after a change get the new certificate.
    """

    def __init__(self, certificate: Path, key: Path, client_authorities: Path | None) -> None:
        """Load the files.

        Raises:
            InvalidError: a file can't be read, or the key needs a passphrase, or does not match the certificate
                (`TLS_FILES_INVALID`).
        """
        self._files = (certificate, key)
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        try:
            if client_authorities is not None:
                self.context.verify_mode = ssl.CERT_OPTIONAL  # each flow decides whether a certificate is required
                self.context.load_verify_locations(client_authorities)
            self._stamps = self._look()
            self.context.load_cert_chain(certificate, key, _no_passphrase)
        except (OSError, ssl.SSLError) as error:
            raise InvalidError(f"TLS can't be set up: {error}", reason="TLS_FILES_INVALID") from None

    def refresh(self) -> None:
        """Reload the files if they changed; if they can't be loaded, the current certificate stays in use."""
        try:
            stamps = self._look()
            if stamps == self._stamps:
                return
            # load into a scratch context first: a mismatched pair must not be half applied
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(*self._files, _no_passphrase)
            self.context.load_cert_chain(*self._files, _no_passphrase)
        except (OSError, InvalidError) as error:  # an SSLError is an OSError
            log.warning("certificate not renewed", cause=str(error))
            return
        self._stamps = stamps
        log.info("certificate renewed")

    def _look(self) -> list[tuple[int, int, int]]:
        found = [path.stat() for path in self._files]
        return [(each.st_mtime_ns, each.st_size, each.st_ino) for each in found]


def _no_passphrase() -> str:
    """Refuse an encrypted key: OpenSSL would prompt at the terminal, and block the whole process."""
    raise InvalidError("TLS can't be set up: the key takes a passphrase; remove it", reason="TLS_FILES_INVALID")


def load_certificates(
    certificate: Path | None, key: Path | None, client_authorities: Path | None = None, *, prefix: str = "--"
) -> Certificates | None:
    """Load the certificates that the settings of the same names configure; None when they configure no TLS. Blocking.

    `prefix` is that of the options, for messages.

    Raises:
        InvalidError: a file is missing or invalid (`TLS_FILES_INVALID`).
    """
    if certificate is None and key is None and client_authorities is None:
        return None
    if certificate is None or key is None:
        raise InvalidError(f"TLS needs both {prefix}tls-cert-file and {prefix}tls-key-file", reason="TLS_FILES_INVALID")
    return Certificates(certificate, key, client_authorities)
