"""Signatures of requests that `flowhook.signatures.sign` can't sign alone, now and then of odd content."""

from __future__ import annotations

import json
import random
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from support.senders import SenderKeys, sign_adyen, sign_mailgun, sign_shared_token

from flowhook.document.models.auth import parse_auth
from flowhook.document.models.credentials import AuthKind
from flowhook.signatures.build import sign
from fuzz.flows import AUDIENCE, ISSUER, SECRETS, TOPIC, WEBHOOK_ID
from fuzz.publisher import BEHAVIOURS

Headers = list[tuple[str, str]]
JSON: Final = ("Content-Type", "application/json")
FORM: Final = ("Content-Type", "application/x-www-form-urlencoded")

SNS_TYPES: Final = ("Notification", "Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation")
ODD: Final = (
    None, True, -1, 2**63, 1e300, "", "x", [], {}, ["x"], {"a": []}, "9" * 400, [[[[]]]], "\x00", "é", 0.5,
)  # fmt: skip
"""Values of claims."""

_TWILIO: Final = parse_auth({"twilio": {"secret": "fuzz"}})[0]
_LINEAR: Final = parse_auth({"hmac": {"secret": "fuzz", "header": "Linear-Signature"}})[0]
"""Signs as Linear does; `sign` can't, because Linear has its timestamp in the body."""


@dataclass(slots=True)
class Draft:
    """A request before it is encoded.

    Attributes:
        url: as the receiver sees it.
        headers: those of the body among them.
        plain: whether it is certain to be accepted.
    """

    method: str
    url: str
    headers: Headers
    body: bytes
    plain: bool = False


class Signing:
    """Signs drafts; may replace their bodies."""

    def __init__(self, keys: SenderKeys, source: random.Random) -> None:
        """Sign with `keys`; take every decision from `source`."""
        self._keys = keys
        self._random = source
        self.signers: Mapping[str, Callable[[Draft], None]] = {
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

    def _add_signed(self, draft: Draft, kind: AuthKind, body: bytes) -> None:
        draft.headers += sign(
            kind, SECRETS, method=draft.method, url=draft.url, body=body, headers=draft.headers, now=time.time()
        )

    def _replace(self, draft: Draft, content: object, kind: tuple[str, str] = JSON) -> None:
        draft.body = json.dumps(content).encode()
        draft.headers = [kind, *(each for each in draft.headers if not each[0].lower().startswith("content-"))]

    def _behaviour(self, draft: Draft) -> str:
        return "good" if draft.plain else self._random.choice(BEHAVIOURS)

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
        body = draft.body
        if not draft.plain and self._random.random() < 0.5:
            draft.headers = [FORM, *(each for each in draft.headers if not each[0].lower().startswith("content-"))]
        else:
            draft.url += ("&" if "?" in draft.url else "?") + f"bodySHA256={sha256(draft.body).hexdigest()}"
            body = b""  # its hash is in the URL, which is all that is signed
        self._add_signed(draft, _TWILIO, body)

    def _adyen(self, draft: Draft) -> None:
        odd = self._random.choice(("7", "7", "7", 7, 1e22, None, True, "é", "a:b\\", [], {}))
        item = sign_adyen(SECRETS["hex"], "7" if draft.plain else odd)
        count = 1 if draft.plain else self._random.choice((1, 1, 2, 100, 101))
        self._replace(draft, {"live": "false", "notificationItems": [{"NotificationRequestItem": item}] * count})

    def _linear(self, draft: Draft) -> None:
        odd = () if draft.plain else self._random.choices(ODD, k=1) * self._random.choice((0, 0, 1))
        stamp = odd[0] if odd else int(time.time() * 1000)
        self._replace(draft, {"action": "create", "webhookTimestamp": stamp, "type": "Issue"})
        self._add_signed(draft, _LINEAR, draft.body)

    def _mailgun(self, draft: Draft) -> None:
        token = f"{self._random.getrandbits(200):050x}"
        data = {} if draft.plain else self._random.choice(ODD)
        signature = sign_mailgun(SECRETS["fuzz"], str(int(time.time())), token)
        self._replace(draft, {"signature": signature, "event-data": data})

    def _microsoft_graph(self, draft: Draft) -> None:
        item = {"clientState": SECRETS["fuzz"].decode(), "id": 1 if draft.plain else self._random.choice(ODD)}
        self._replace(draft, {"value": [item] * (1 if draft.plain else self._random.choice((1, 1, 3, 100, 101)))})

    def _paypal(self, draft: Draft) -> None:
        path = f"v1/notifications/certs/CERT-{self._behaviour(draft)}-{self._number()}"
        draft.headers += self._keys.sign_paypal(
            draft.body,
            webhook_id=WEBHOOK_ID,
            certificate_url=f"https://api.paypal.com/{path}",
            delivery=f"t{self._random.randrange(10**9)}",
            time=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        )

    def _aws_sns(self, draft: Draft) -> None:
        host = "https://sns.eu-central-1.amazonaws.com"
        kind = "Notification" if draft.plain else self._random.choice(SNS_TYPES)
        text = "{}" if draft.plain else self._random.choice(("{}", "", "é\n\x00", "[" * 2000, '{"a":1}', "\ufffe"))
        message = {"Type": kind, "MessageId": f"m{self._random.randrange(10**9)}", "TopicArn": TOPIC, "Message": text}
        message["Timestamp"] = "2026-01-01T00:00:00.000Z"
        if kind != "Notification":
            end = self._random.choice((f"TopicArn=x&Token={self._behaviour(draft)}", "é", "a b", "", "x" * 3000))
            message |= {"Token": "t", "SubscribeURL": f"{host}/?Action=ConfirmSubscription&{end}"}
        elif self._random.random() < 0.5:
            message["Subject"] = "s"
        certificate = f"{host}/SimpleNotificationService-{self._behaviour(draft)}{self._number()}.pem"
        signed = self._keys.sign_sns(message, certificate)
        self._replace(draft, signed, ("Content-Type", "text/plain; charset=UTF-8"))

    def _plaid(self, draft: Draft) -> None:
        claims = {"iat": int(time.time()), "request_body_sha256": sha256(draft.body).hexdigest()}
        key_id = f"{self._behaviour(draft)}-{self._number()}"
        draft.headers.append(("Plaid-Verification", self._keys.sign_token(self._odd(draft, claims), key_id)))

    def _token(self, draft: Draft, header: str) -> None:
        claims = {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600}
        key_id = "one" if draft.plain else self._random.choice(("one", "one", "one", "a", "b", "c", "d", "", "x" * 300))
        token = self._keys.sign_token(self._odd(draft, claims), key_id)
        draft.headers.append((header, f"Bearer {token}" if header == "Authorization" else token))

    def _shared_token(self, draft: Draft) -> None:
        claims = self._odd(draft, {"exp": int(time.time()) + 600})
        draft.headers.append(("Authorization", f"Bearer {sign_shared_token(claims, SECRETS['long'])}"))

    def _odd(self, draft: Draft, claims: dict[str, object]) -> object:
        """Return claims, four of ten times with something odd in or instead of them."""
        if draft.plain or self._random.random() < 0.6:
            return claims
        if self._random.random() < 0.1:
            return self._random.choice(ODD)
        name = self._random.choice(("iss", "aud", "exp", "iat", "nbf", "sub", "jti", "request_body_sha256"))
        return claims | {name: self._random.choice(ODD)}
