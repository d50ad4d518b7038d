"""Certificates of a TLS server: its own, and those of the authorities of its clients; reloaded when their files change.

Source: RFC 8446; https://docs.python.org/3/library/ssl.html.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from weakref import WeakSet

from flowhook.errors import InvalidError
from flowhook.process import logs
from flowhook.process.process_state import ProcessState
from flowhook.process.ticks import next_tick

LOOK_SECONDS: Final = 2.0  # between two looks whether a certificate has expired
WARNING: Final = "certificate"  # kind of the warning of a process that shows one

log = logs.get_logger(__name__)

_IN_USE: Final = WeakSet["Certificates"]()


class Certificates:
    """The certificate of a server, and the authorities that sign those of its clients.

    A new `context` is for connections that begin after a change: only a new one forgets an authority, and the sessions
    that clients could resume without showing their certificate again. Connections that began with another
    `authorities_version` were made by clients that need not be trusted any more.
    """

    def __init__(self, certificate: Path, key: Path, client_authorities: Path | None) -> None:
        self._certificate = certificate
        self._key = key
        self._authorities = client_authorities
        self._failure = ""
        self._pem = b""
        self._expiry: float | None = None  # None: not read yet
        self.authorities_version = 0
        try:
            self._stamps = self._look()
            self.context = self._load()
        except OSError as error:  # an SSLError is one
            raise InvalidError(f"TLS can't be set up: {error}", reason="TLS_FILES_INVALID") from None
        _IN_USE.add(self)

    def expiry(self) -> tuple[str, float] | None:
        """Return the file of the certificate and the Unix time (s) at which it expires; None: it can't be read."""
        if self._expiry is None:
            from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415 - few processes have one

            try:
                found = load_pem_x509_certificates(self._pem)
            except ValueError:
                return None
            self._expiry = min(each.not_valid_after_utc.timestamp() for each in found)
        return str(self._certificate), self._expiry

    def refresh(self) -> bool:
        """Reload the files if one of them changed; return whether they did.

        If they can't be loaded, all that was loaded before stays in use. That is logged once for each cause.
        """
        try:
            stamps = self._look()
            if stamps == self._stamps:
                return False
            self.context = self._load()
        except (OSError, InvalidError) as error:
            if str(error) != self._failure:
                self._failure = str(error)
                log.warning("certificates not renewed", cause=self._failure)
            return False
        if stamps[2:] != self._stamps[2:]:
            self.authorities_version += 1
        self._stamps = stamps
        self._failure = ""
        log.info("certificates renewed")
        return True

    def _look(self) -> list[tuple[int, int, int]]:
        """Return what changes with the files; the last one is that of the authorities, if there are any."""
        paths = (self._certificate, self._key, self._authorities)
        found = [path.stat() for path in paths if path is not None]
        return [(each.st_mtime_ns, each.st_size, each.st_ino) for each in found]

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        if self._authorities is not None:
            context.verify_mode = ssl.CERT_OPTIONAL  # each flow decides whether a certificate is required
            context.load_verify_locations(self._authorities)
        context.load_cert_chain(self._certificate, self._key, _no_passphrase)
        self._pem, self._expiry = self._certificate.read_bytes(), None
        return context


def _no_passphrase() -> str:
    """Refuse an encrypted key: OpenSSL would prompt at the terminal, and block the whole process."""
    raise InvalidError("TLS can't be set up: the key takes a passphrase; remove it", reason="TLS_FILES_INVALID")


def load_certificates(
    certificate: Path | None, key: Path | None, client_authorities: Path | None = None, *, prefix: str = "--"
) -> Certificates | None:
    """Load the certificates that the settings of the same names configure; None when they configure no TLS. Blocking.

    `prefix` is that of the options, for messages. InvalidError: a file can't be read, or the key needs a passphrase, or
    does not match the certificate (`TLS_FILES_INVALID`).
    """
    if certificate is None and key is None and client_authorities is None:
        return None
    if certificate is None or key is None:
        raise InvalidError(f"TLS needs both {prefix}tls-cert-file and {prefix}tls-key-file", reason="TLS_FILES_INVALID")
    return Certificates(certificate, key, client_authorities)


def expiries() -> list[tuple[tuple[str], float]]:
    """Return when the certificates of this process expire, in Unix time (s), by file."""
    found = dict(filter(None, (each.expiry() for each in list(_IN_USE))))
    return [((file,), at) for file, at in sorted(found.items())]


async def watch_expiry(process_state: ProcessState, *, now: Callable[[], float] = time.time) -> None:
    """Say at once that a certificate of this process has expired, also if it had when it was loaded.

    `now` returns Unix time in seconds. Runs until it is cancelled.
    """
    while True:
        expired = [file for (file,), at in expiries() if at <= now()]
        problem = f"{', '.join(expired)} has expired, so clients refuse to connect: replace it" if expired else ""
        if process_state.warn(WARNING, problem) != problem and problem:
            log.error("a certificate has expired", files=expired)
        await next_tick(LOOK_SECONDS)
