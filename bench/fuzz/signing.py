"""Signatures that `flowhook.signatures.sign` can't make: by private keys, and those that stand in the body."""

from __future__ import annotations

import hmac
import json
import random
import time
import zlib
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final
from urllib.parse import parse_qsl

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc.jwk import ECKey

from bench.fuzz.flows import AUDIENCE, ISSUER, SECRETS, TOPIC, WEBHOOK_ID
from bench.fuzz.keys import Keys
from bench.fuzz.publisher import WAYS

Headers = list[tuple[str, str]]
JSON: Final = ("Content-Type", "application/json")
FORM: Final = ("Content-Type", "application/x-www-form-urlencoded")

SNS_TYPES: Final = ("Notification", "Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation")
ODD: Final = (
    None, True, -1, 2**63, 1e300, "", "x", [], {}, ["x"], {"a": []}, "9" * 400, [[[[]]]], "\x00", "é", 0.5,
)  # fmt: skip
"""Values of claims."""


@dataclass(slots=True)
class Draft:
    """A request that is not written down yet.

    Attributes:
        url: as the receiver sees it.
        headers: those of the body among them.
        plain: whether it is to be accepted for sure.
    """

    method: str
    url: str
    headers: Headers
    body: bytes
    plain: bool = False


class Signing:
    """Signs drafts; may put another body into one."""

    def __init__(self, keys: Keys, source: random.Random) -> None:
        """Sign with `keys`; take every decision from `source`."""
        self._keys = keys
        self._random = source
        self.ways: Mapping[str, Callable[[Draft], None]] = {
            "adyen": self._adyen,
            "aws-sns": self._aws_sns,
            "discord": self._discord,
            "files-token": self._shared_token,
            "jwks": lambda draft: self._token(draft, "Authorization"),
            "jwks-broken": lambda draft: self._token(draft, "Authorization"),
            "jwks-otherKey": lambda draft: self._token(draft, "Authorization"),
            "jwt-pem": lambda draft: self._token(draft, "X-Token"),
            "jwt-shared": self._shared_token,
            "key-ec": lambda draft: self._add(draft, b64encode(keys.sign_ec(draft.body))),
            "key-ed": lambda draft: self._add(draft, keys.ed.sign(draft.body).hex().encode()),
            "key-rsa": lambda draft: self._add(draft, urlsafe_b64encode(keys.sign_rsa(draft.body))),
            "linear": self._linear,
            "mailgun": self._mailgun,
            "microsoft-graph": self._microsoft_graph,
            "paypal": self._paypal,
            "plaid": self._plaid,
            "sendgrid": self._sendgrid,
            "standard-public": self._standard,
            "twilio": self._twilio,
        }

    def _add(self, draft: Draft, signature: bytes, name: str = "X-Signature") -> None:
        draft.headers.append((name, signature.decode()))

    def _replace(self, draft: Draft, content: object, kind: tuple[str, str] = JSON) -> None:
        draft.body = json.dumps(content).encode()
        draft.headers = [kind, *(each for each in draft.headers if not each[0].lower().startswith("content-"))]

    def _way(self, draft: Draft) -> str:
        return "good" if draft.plain else self._random.choice(WAYS)

    def _number(self) -> str:
        return str(self._random.randrange(40))

    def _discord(self, draft: Draft) -> None:
        if not draft.plain and self._random.random() < 0.3:
            self._replace(draft, {"type": self._random.choice((0, 1, 2, "0", None, 1.0, [])), "event": None})
        stamp = str(int(time.time()))
        draft.headers.append(("X-Signature-Timestamp", stamp))
        self._add(draft, self._keys.ed.sign(stamp.encode() + draft.body).hex().encode(), "X-Signature-Ed25519")

    def _sendgrid(self, draft: Draft) -> None:
        stamp = str(int(time.time()))
        draft.headers.append(("X-Twilio-Email-Event-Webhook-Timestamp", stamp))
        signature = b64encode(self._keys.sign_ec(stamp.encode() + draft.body))
        self._add(draft, signature, "X-Twilio-Email-Event-Webhook-Signature")

    def _standard(self, draft: Draft) -> None:
        stamp, name = str(int(time.time())), f"msg_{self._random.randrange(10**9)}"
        draft.headers += [("webhook-id", name), ("webhook-timestamp", stamp)]
        signature = b64encode(self._keys.ed.sign(f"{name}.{stamp}.".encode() + draft.body))
        self._add(draft, b"v1a," + signature, "webhook-signature")

    def _twilio(self, draft: Draft) -> None:
        signed = draft.url
        if not draft.plain and self._random.random() < 0.5:
            draft.headers = [FORM, *(each for each in draft.headers if not each[0].lower().startswith("content-"))]
            fields = sorted(set(parse_qsl(draft.body.decode("latin-1"), keep_blank_values=True)))
            signed += "".join(name + value for name, value in fields)
        else:
            draft.url += ("&" if "?" in draft.url else "?") + f"bodySHA256={sha256(draft.body).hexdigest()}"
            signed = draft.url
        mac = hmac.digest(SECRETS["fuzz"], signed.encode("utf-8", "replace"), "sha1")
        self._add(draft, b64encode(mac), "X-Twilio-Signature")

    def _adyen(self, draft: Draft) -> None:
        odd = self._random.choice(("7", "7", "7", 7, 1e22, None, True, "é", "a:b\\", [], {}))
        item: dict[str, Any] = {"pspReference": "7" if draft.plain else odd, "merchantAccountCode": "m"}
        item |= {"merchantReference": "r", "amount": {"value": 1, "currency": "EUR"}, "eventCode": "AUTHORISATION"}
        item |= {"originalReference": "", "success": "true"}
        text = ":".join(str(each) for each in (item["pspReference"], "", "m", "r", 1, "EUR", "AUTHORISATION", "true"))
        mac = hmac.digest(bytes.fromhex(SECRETS["hex"].decode()), text.encode(), "sha256")
        item["additionalData"] = {"hmacSignature": b64encode(mac).decode()}
        count = 1 if draft.plain else self._random.choice((1, 1, 2, 100, 101))
        self._replace(draft, {"live": "false", "notificationItems": [{"NotificationRequestItem": item}] * count})

    def _linear(self, draft: Draft) -> None:
        odd = () if draft.plain else self._random.choices(ODD, k=1) * self._random.choice((0, 0, 1))
        stamp = odd[0] if odd else int(time.time() * 1000)
        self._replace(draft, {"action": "create", "webhookTimestamp": stamp, "type": "Issue"})
        self._add(draft, hmac.digest(SECRETS["fuzz"], draft.body, "sha256").hex().encode(), "Linear-Signature")

    def _mailgun(self, draft: Draft) -> None:
        stamp, token = str(int(time.time())), f"{self._random.getrandbits(200):050x}"
        mac = hmac.digest(SECRETS["fuzz"], (stamp + token).encode(), "sha256").hex()
        data = {} if draft.plain else self._random.choice(ODD)
        self._replace(draft, {"signature": {"timestamp": stamp, "token": token, "signature": mac}, "event-data": data})

    def _microsoft_graph(self, draft: Draft) -> None:
        item = {"clientState": SECRETS["fuzz"].decode(), "id": 1 if draft.plain else self._random.choice(ODD)}
        self._replace(draft, {"value": [item] * (1 if draft.plain else self._random.choice((1, 1, 3, 100, 101)))})

    def _paypal(self, draft: Draft) -> None:
        stamp, name = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", f"t{self._random.randrange(10**9)}"
        content = f"{name}|{stamp}|{WEBHOOK_ID}|{zlib.crc32(draft.body)}".encode()
        path = f"v1/notifications/certs/CERT-{self._way(draft)}-{self._number()}"
        draft.headers += [
            ("PAYPAL-TRANSMISSION-ID", name), ("PAYPAL-TRANSMISSION-TIME", stamp),
            ("PAYPAL-AUTH-ALGO", "SHA256withRSA"),
            ("PAYPAL-CERT-URL", f"https://api.paypal.com/{path}"),
        ]  # fmt: skip
        self._add(draft, b64encode(self._keys.sign_rsa(content)), "PAYPAL-TRANSMISSION-SIG")

    def _aws_sns(self, draft: Draft) -> None:
        host = "https://sns.eu-central-1.amazonaws.com"
        kind = "Notification" if draft.plain else self._random.choice(SNS_TYPES)
        text = "{}" if draft.plain else self._random.choice(("{}", "", "é\n\x00", "[" * 2000, '{"a":1}', "\ufffe"))
        message = {"Type": kind, "MessageId": f"m{self._random.randrange(10**9)}", "TopicArn": TOPIC, "Message": text}
        message["Timestamp"] = "2026-01-01T00:00:00.000Z"
        if kind != "Notification":
            where = self._random.choice((f"TopicArn=x&Token={self._way(draft)}", "é", "a b", "", "x" * 3000))
            message |= {"Token": "t", "SubscribeURL": f"{host}/?Action=ConfirmSubscription&{where}"}
        elif self._random.random() < 0.5:
            message["Subject"] = "s"
        content = "".join(f"{name}\n{message[name]}\n" for name in sorted(message)).encode()
        certificate = f"{host}/SimpleNotificationService-{self._way(draft)}{self._number()}.pem"
        proof = {"SignatureVersion": "2", "SigningCertURL": certificate}
        proof["Signature"] = b64encode(self._keys.sign_rsa(content)).decode()
        self._replace(draft, message | proof, ("Content-Type", "text/plain; charset=UTF-8"))

    def _plaid(self, draft: Draft) -> None:
        claims = {"iat": int(time.time()), "request_body_sha256": sha256(draft.body).hexdigest()}
        key_id = f"{self._way(draft)}-{self._number()}"
        self._add(draft, self._by_key({"alg": "ES256", "kid": key_id}, self._odd(draft, claims)), "Plaid-Verification")

    def _token(self, draft: Draft, header: str) -> None:
        claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600}
        key_id = "one" if draft.plain else self._random.choice(("one", "one", "one", "a", "b", "c", "d", "", "x" * 300))
        token = self._by_key({"alg": "ES256", "kid": key_id}, self._odd(draft, claims)).decode()
        draft.headers.append((header, f"Bearer {token}" if header == "Authorization" else token))

    def _shared_token(self, draft: Draft) -> None:
        claims = self._odd(draft, {"exp": int(time.time()) + 600})
        signed = _joined({"alg": "HS256", "typ": "JWT"}, claims)
        mac = hmac.digest(SECRETS["long"], signed, "sha256")
        draft.headers.append(("Authorization", f"Bearer {(signed + b'.' + _base64url(mac)).decode()}"))

    def _odd(self, draft: Draft, claims: dict[str, object]) -> object:
        """Return claims, one of ten with something odd among them."""
        if draft.plain or self._random.random() < 0.6:
            return claims
        if self._random.random() < 0.1:
            return self._random.choice(ODD)
        name = self._random.choice(("iss", "aud", "exp", "iat", "nbf", "sub", "jti", "request_body_sha256"))
        return claims | {name: self._random.choice(ODD)}

    def _by_key(self, header: dict[str, str], claims: object) -> bytes:
        signed = _joined(header, claims)
        return signed + b"." + _base64url(_raw_signature(self._keys.token, signed))


def _raw_signature(key: ECKey, content: bytes) -> bytes:
    first, second = decode_dss_signature(key.private_key.sign(content, ec.ECDSA(hashes.SHA256())))
    return first.to_bytes(32, "big") + second.to_bytes(32, "big")


def _joined(header: object, claims: object) -> bytes:
    return b".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))


def _base64url(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")
