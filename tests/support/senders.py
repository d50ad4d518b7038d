"""Keys of senders, and the signatures that `flowhook.signatures.sign` can't make: by private keys, and in bodies."""

from __future__ import annotations

import datetime as dt
import hmac
import json
import zlib
from base64 import b64encode

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID
from joserfc import jws
from joserfc.jwk import ECKey, OctKey

_DAY = dt.timedelta(days=1)


class SenderKeys:
    """One private key of each kind, and what they sign.

    Attributes:
        ed: Ed25519.
        ec: on P-256.
        rsa: of 2048 bits.
        token: signs tokens by ES256; its ID is `one`.
    """

    def __init__(self):
        self.ed = ed25519.Ed25519PrivateKey.generate()
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.rsa = rsa.generate_private_key(65537, 2048)
        self.token = ECKey.generate_key("P-256", {"kid": "one", "use": "sig", "alg": "ES256"}, auto_kid=False)

    @property
    def ed_hex(self):
        """Public key in hex."""
        return self.ed.public_key().public_bytes_raw().hex()

    @property
    def ed_base64(self):
        """Public key in base64."""
        return b64encode(self.ed.public_key().public_bytes_raw()).decode()

    @property
    def ec_spki(self):
        """Public key in base64."""
        encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        return b64encode(self.ec.public_key().public_bytes(encoding, form)).decode()

    @property
    def rsa_pem(self):
        """Public key as PEM."""
        encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        return self.rsa.public_key().public_bytes(encoding, form).decode()

    @property
    def token_pem(self):
        """Public key of tokens as PEM."""
        return self.token.as_pem(private=False).decode()

    def certificate(self, *, expired=False, on_curve=False):
        """Return a certificate of the RSA key, or of the one on P-256, as PEM."""
        end = dt.datetime.now(dt.UTC) + (-_DAY if expired else _DAY)
        key = self.ec.public_key() if on_curve else self.rsa.public_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "signer")])
        builder = x509.CertificateBuilder(name, name, key, 1).not_valid_before(end - 2 * _DAY).not_valid_after(end)
        return builder.sign(self.rsa, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def sign_ec(self, content):
        """Return a signature in DER."""
        return self.ec.sign(content, ec.ECDSA(hashes.SHA256()))

    def sign_rsa(self, content):
        """Return a signature by PKCS #1 v1.5."""
        return self.rsa.sign(content, padding.PKCS1v15(), hashes.SHA256())

    def sign_token(self, claims, key_id="one"):
        """Return a token; `claims` may be any JSON value."""
        return jws.serialize_compact({"alg": "ES256", "kid": key_id}, json.dumps(claims), self.token)

    def sign_sns(self, message, certificate_url):
        """Return a message of Amazon SNS with its signature; `message` has the signed fields and no others."""
        content = "".join(f"{name}\n{message[name]}\n" for name in sorted(message))  # which is the documented order
        signature = b64encode(self.sign_rsa(content.encode())).decode()
        return message | {"SignatureVersion": "2", "Signature": signature, "SigningCertURL": certificate_url}

    def sign_paypal(self, body, *, webhook_id, certificate_url, delivery="t1", time="2026-01-01T00:00:00Z"):
        """Return PayPal's headers for a body; `delivery` is the transmission's ID."""
        content = f"{delivery}|{time}|{webhook_id}|{zlib.crc32(body)}".encode()
        return [
            ("PAYPAL-TRANSMISSION-ID", delivery),
            ("PAYPAL-TRANSMISSION-TIME", time),
            ("PAYPAL-AUTH-ALGO", "SHA256withRSA"),
            ("PAYPAL-CERT-URL", certificate_url),
            ("PAYPAL-TRANSMISSION-SIG", b64encode(self.sign_rsa(content)).decode()),
        ]


def sign_shared_token(claims, secret):
    """Return a token that is signed by HS256; `claims` may be any JSON value."""
    return jws.serialize_compact({"alg": "HS256", "typ": "JWT"}, json.dumps(claims), OctKey.import_key(secret))


def sign_adyen(secret, reference="p"):
    """Return an item of Adyen's notifications with its signature; `secret` is in hex."""
    fields = (reference, "", "m", "r", "10", "EUR", "AUTHORISATION", "true")
    content = ":".join(map(str, fields)).encode()
    signature = b64encode(hmac.digest(bytes.fromhex(secret.decode()), content, "sha256")).decode()
    return {
        "pspReference": reference,
        "originalReference": "",
        "merchantAccountCode": "m",
        "merchantReference": "r",
        "amount": {"value": 10, "currency": "EUR"},
        "eventCode": "AUTHORISATION",
        "success": "true",
        "additionalData": {"hmacSignature": signature},
    }


def sign_mailgun(secret, timestamp, token):
    """Return the member `signature` of Mailgun's bodies."""
    signature = hmac.digest(secret, (timestamp + token).encode(), "sha256").hex()
    return {"timestamp": timestamp, "token": token, "signature": signature}
