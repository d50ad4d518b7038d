"""Private keys of this run: their public halves stand in the flows, or where edges fetch them."""

from __future__ import annotations

import datetime as dt
import ipaddress
from base64 import b64encode
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID
from joserfc.jwk import ECKey

_DAY: Final = dt.timedelta(days=1)


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


_SIGNS: Final = _usage(certificates=False)
_SIGNS_CERTIFICATES: Final = _usage(certificates=True)


class Keys:
    """One of each kind.

    Attributes:
        ed: Ed25519.
        ec: on P-256.
        rsa: of 2048 bits.
        token: of tokens, with the ID `one`.
    """

    def __init__(self) -> None:
        self.ed = ed25519.Ed25519PrivateKey.generate()
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.rsa = rsa.generate_private_key(65537, 2048)
        self.token = ECKey.generate_key("P-256", {"kid": "one", "use": "sig", "alg": "ES256"}, auto_kid=False)

    @property
    def ed_hex(self) -> str:
        """Public key in hex."""
        return self.ed.public_key().public_bytes_raw().hex()

    @property
    def ed_base64(self) -> str:
        """Public key in base64."""
        return b64encode(self.ed.public_key().public_bytes_raw()).decode()

    @property
    def ec_spki(self) -> str:
        """Public key in base64."""
        key = self.ec.public_key()
        return b64encode(
            key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        ).decode()

    @property
    def rsa_pem(self) -> str:
        """Public key as PEM."""
        return _pem(self.rsa.public_key())

    @property
    def token_pem(self) -> str:
        """Public key of tokens as PEM."""
        return str(self.token.as_pem(private=False).decode())

    def sign_ec(self, content: bytes) -> bytes:
        """Return a signature in DER."""
        return self.ec.sign(content, ec.ECDSA(hashes.SHA256()))

    def sign_rsa(self, content: bytes) -> bytes:
        """Return a signature by PKCS #1 v1.5."""
        return self.rsa.sign(content, padding.PKCS1v15(), hashes.SHA256())

    def certificate(self, *, expired: bool = False, on_curve: bool = False) -> bytes:
        """Return a certificate of the RSA key, or of the other one, as PEM."""
        end = dt.datetime.now(dt.UTC) + (-_DAY if expired else _DAY)
        key = self.ec.public_key() if on_curve else self.rsa.public_key()
        name = _name("signer")
        builder = x509.CertificateBuilder(name, name, key, 1).not_valid_before(end - 2 * _DAY).not_valid_after(end)
        return builder.sign(self.rsa, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class Authority:
    """An authority of TLS certificates.

    Attributes:
        ca_file: its own certificate.
    """

    def __init__(self, folder: Path) -> None:
        """Write to `folder`."""
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.ca_file = self._write("ca.pem", self._make("fuzz authority", self._key, (), authority=True))

    def issue(self, name: str, hosts: tuple[str, ...] = ()) -> tuple[Path, Path]:
        """Return the files of a new certificate, for this machine and `hosts`, and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return self._write(f"{name}.pem", self._make(name, key, hosts)), self._write(f"{name}.key", text)

    def _make(
        self, name: str, key: ec.EllipticCurvePrivateKey, hosts: tuple[str, ...], *, authority: bool = False
    ) -> bytes:
        now = dt.datetime.now(dt.UTC)
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), *map(x509.DNSName, hosts)]
        builder = x509.CertificateBuilder(
            _name("fuzz authority"), _name(name), key.public_key(), x509.random_serial_number()
        )
        builder = builder.not_valid_before(now - _DAY).not_valid_after(now + _DAY)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        # clients refuse certificates without these since Python 3.13 (VERIFY_X509_STRICT)
        builder = builder.add_extension(_SIGNS_CERTIFICATES if authority else _SIGNS, critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        builder = builder.add_extension(identifier, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _write(self, name: str, content: bytes) -> Path:
        path = self._folder / name
        path.write_bytes(content)
        return path


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(key: rsa.RSAPublicKey) -> str:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
