"""Generates well-formed HTTP requests: ones that a flow accepts, handshakes, and variations of both."""

from __future__ import annotations

import random
import re
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from support.senders import SenderKeys

from flowhook.document.models.auth import parse_auth
from flowhook.errors import InvalidError
from flowhook.signatures.build import sign, sign_url
from fuzz.flows import CLOSED, NAMESPACE, SECRETS, WAITS
from fuzz.payloads import PLAIN, Payloads
from fuzz.signing import Draft, Signing

QUERIES: Final = (
    "", "", "", "", "", "?a=1&b=%20", "?k=1", "?hub.mode=subscribe&hub.challenge=%0a", "?challenge=abc",
    "?challenge=%ff%3Cb%3E", "?hub.mode=subscribe&hub.verify_token=a%20secret%20of%20the%20fuzzer&hub.challenge=1",
    "?crc_token=YWJj", "?crc_token=", "?validationToken=abc", "?validationToken=" + "v" * 3000,
    "?bodySHA256=00", "?api_key=%ff",
)  # fmt: skip
EXTRA_HEADERS: Final = (
    ("X-Hook-Secret", "chosen"), ("Twitch-Eventsub-Message-Type", "webhook_callback_verification"),
    ("X-Signature-Ed25519", "00" * 64), ("X-Signature-Timestamp", "1"),
    ("X-Twilio-Email-Event-Webhook-Signature", "MEUCIQ=="), ("X-Twilio-Email-Event-Webhook-Timestamp", "1"),
    ("Linear-Signature", "00" * 32), ("webhook-id", "msg_1"), ("X-Sig-999999", "00,"), ("Cookie", "a=b"),
    ("X-Forwarded-For", "192.0.2.7, 127.0.0.1"), ("X-Forwarded-For", ",,[::1]:x"), ("X-Forwarded-Host", "a b"),
    ("Forwarded", 'for="[2001:db8::1]:80";proto=https;host=h'), ("Forwarded", 'for="\\'), ("Forwarded", "for=_x, for="),
    ("X-Forwarded-Proto", "ftp"), ("Expect", "100-continue"), ("Content-Encoding", "gzip"), ("traceparent", "00-x"),
    ("Connection", "keep-alive, x-signature"), ("Accept", "\xff"), ("ce-id", "%C3%A9%zz"), ("Date", ""),
)  # fmt: skip
VALUES: Final = (
    "", " ", ",", "=", "é", "\xff\xfe", "0", "-1", "9" * 40, "1e400", "a=b,c=d", "v1,v1,v1", "t=1,t=2", "sha256=",
    "%00%ff", "null", "x" * 5000, '"', "Bearer ", "Basic Og==", "2026-13-45T99:99:99Z", "0001-01-01T00:00:00Z",
)  # fmt: skip
METHODS: Final = ("POST", "POST", "GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "X")

HANDSHAKES: Final[Mapping[str, tuple[str, str, bytes, tuple[tuple[str, str], ...]]]] = {
    "asana": ("POST", "", b"", (("X-Hook-Secret", "chosen"),)),
    "azure-event-grid": (
        "POST", "", b'[{"data":{"validationCode":"c"}}]', (("aeg-event-type", "SubscriptionValidation"),),
    ),
    "discord": ("POST", "", b'{"type":1}', ()),
    "dropbox": ("GET", "?challenge=abc", b"", ()),
    "meta": ("GET", "?hub.mode=subscribe&hub.verify_token=a%20secret%20of%20the%20fuzzer&hub.challenge=7", b"", ()),
    "microsoft-graph": ("POST", "?validationToken=abc", b"", ()),
    "slack": ("POST", "", b'{"type":"url_verification","challenge":"c"}', ()),
    "twitch": (
        "POST", "", b'{"challenge":"c"}', (("Twitch-Eventsub-Message-Type", "webhook_callback_verification"),),
    ),
    "x": ("GET", "?crc_token=YWJj", b"", ()),
    "zoom": ("POST", "", b'{"event":"endpoint.url_validation","payload":{"plainToken":"t"}}', ()),
}  # fmt: skip
"""Method, query, body and headers of the requests that providers send when a URL is registered; the answer is 200."""

_ISSUED: Final = re.compile(
    rb"/replies/[A-Za-z0-9_.~-]+|/hook/%b\.%b/approval/[A-Za-z0-9_.~-]+" % (NAMESPACE.encode(), WAITS.encode())
)

UNSIGNED: Final = frozenset({"asana", "dropbox", "meta", "microsoft-graph", "x"})
"""Providers whose handshake is not signed."""


class Drafts:
    """Generates requests.

    Attributes:
        flows: `webhook` of each flow, by name.
        issued: paths from answers of edges: one-time URLs, and replies.
    """

    def __init__(
        self,
        flows: Mapping[str, Mapping[str, Any]],
        keys: SenderKeys,
        source: random.Random,
        host: str,
        payloads: Payloads | None = None,
    ) -> None:
        """Take every decision from `source`, which `payloads` uses as well; send to `host`."""
        self.flows = flows
        self.issued: deque[str] = deque(maxlen=300)
        self._random = source
        self._host = host
        self._kinds = {name: parse_auth(webhook["auth"]) for name, webhook in flows.items()}
        self._signing = Signing(keys, source)
        self.payloads = payloads or Payloads(source)
        self._guessed = {**SECRETS, "never": b"a guess"}

    def valid(self, name: str, *, plain: bool = False) -> Draft:
        """Return a request that the flow of this name accepts; that of `CLOSED` refuses it.

        Args:
            name: of the flow.
            plain: it is certain to be accepted; otherwise its body may be refused, or it may be a handshake.
        """
        pick, chance = self._random.choice, self._random.random
        fields, body = PLAIN if plain else self.payloads.make()
        if name == "small" and chance() < 0.7:
            body = body[:64]
        query = "" if plain else pick(QUERIES)
        method = "POST" if plain else pick(self.flows[name].get("methods", ("POST",)))
        url = f"http://{self._host}/hook/{NAMESPACE}.{name}{query}"
        draft = Draft(method, url, [*fields, ("X-GitHub-Delivery", "d")], body, plain)
        if not plain and name in HANDSHAKES and chance() < 0.3:
            self._make_handshake(draft, name)
        if not plain and chance() < 0.15:
            draft.headers.append(pick(EXTRA_HEADERS))
        self.sign(draft, name)
        return draft

    def handshake(self, name: str) -> Draft:
        """Return the handshake of a provider."""
        draft = Draft("", f"http://{self._host}/hook/{NAMESPACE}.{name}", [PLAIN[0][0]], b"", plain=True)
        self._make_handshake(draft, name)
        if name not in UNSIGNED:
            self.sign(draft, name)
        return draft

    def _make_handshake(self, draft: Draft, name: str) -> None:
        draft.method, query, draft.body, fields = HANDSHAKES[name]
        draft.url = draft.url.partition("?")[0] + query
        draft.headers = [PLAIN[0][0], *fields]

    def sign(self, draft: Draft, name: str) -> None:
        """Sign a request for the flow of this name; its body may be replaced."""
        signer = self._signing.signers.get(name)
        with suppress(InvalidError):  # some can sign only well-formed bodies
            if signer is not None:
                signer(draft)
            else:
                self._sign_by_secret(draft, name)

    def _sign_by_secret(self, draft: Draft, name: str) -> None:
        kinds = self._kinds[name]
        kind = self._random.choice(kinds) if kinds else None
        if draft.plain and name != CLOSED:
            kind = kinds[-1] if name == "mtls" else kinds[0] if kinds else None
        draft.url = sign_url(kind, self._guessed, draft.url)
        host = [("Host", self._host)]
        draft.headers += sign(
            kind, self._guessed, method=draft.method, url=draft.url, body=draft.body,
            headers=host + draft.headers, now=time.time(),
        )  # fmt: skip

    def near(self, name: str) -> Draft:
        """Return a valid request, in most cases with changes that leave it well-formed HTTP."""
        draft = self.valid(name)
        for _ in range(self._random.choice((0, 0, 1, 1, 2))):
            self._change(draft)
        return draft

    def _change(self, draft: Draft) -> None:
        pick, headers = self._random.choice, draft.headers
        place = self._random.randrange(len(headers))
        match self._random.randrange(8):
            case 0:
                draft.body = self.payloads.damaged(draft.body)
            case 1:
                headers[place] = (headers[place][0], pick(VALUES))
            case 2:
                value = headers[place][1]
                cut = self._random.randrange(len(value) + 1)
                headers[place] = (headers[place][0], value[:cut] + pick(VALUES) + value[cut + 1 :])
            case 3:
                del headers[place]
                headers.append(pick(EXTRA_HEADERS))
            case 4:
                name, value = headers[place]
                headers += [(name, value)] * (name.lower() not in ("content-type", "host", "expect"))
            case 5:
                draft.method = pick(METHODS)
            case 6:
                draft.url += pick(("/x", "/approval", "/closed", "/approval/" + "t" * 43, "?", "&a=%zz", "/%2e%2e/"))
            case _:
                self._redirect(draft)

    def _redirect(self, draft: Draft) -> None:
        """Send it to a path from an answer of an edge, changed or not."""
        if not self.issued:
            return
        path = self._random.choice(self.issued)
        if self._random.random() < 0.4:
            place = self._random.randrange(len(path))
            path = path[:place] + self._random.choice("aZ0.-_~/%") + path[place + self._random.choice((0, 1, 9)) :]
        draft.url = f"http://{self._host}{path if path.startswith('/') else '/' + path}"
        draft.method = "GET" if path.startswith("/replies") else self._random.choice(("POST", "PUT", "HEAD", "GET"))

    def encoded(self, draft: Draft) -> bytes:
        """Return the request as it is sent."""
        head = self.head(draft)
        if draft.plain or not draft.body or self._random.random() < 0.85:
            return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(draft.body), draft.body)
        pick = self._random.choice
        size = pick((1 + len(draft.body) // 3, len(draft.body), 7 + len(draft.body) // 20))
        trailer = pick((b"", b"", b"X-Sum: 1\r\n", b"Content-Length: 3\r\n"))
        extension = pick((b"", b"", b";a=b", b' ; a="b"'))
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(draft.body, size, extension) + trailer + b"\r\n"

    def head(self, draft: Draft) -> bytes:
        """Return the lines of the head without those that frame the body."""
        target = draft.url.partition("://")[2].partition("/")[2]
        lines = [f"{draft.method} /{target} HTTP/1.1", f"Host: {self._host}", "User-Agent: fuzz"]
        lines += [f"{name}: {value}" for name, value in draft.headers]
        return "\r\n".join(lines).encode("utf-8", "replace") + b"\r\n"


def chunked(body: bytes, size: int, extension: bytes = b"") -> bytes:
    """Return a body in chunks of `size` bytes, the empty one included; trailers have to follow."""
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces) + b"0\r\n"


def issued_paths(received: bytes) -> list[str]:
    """Return the paths of one-time URLs and of replies in answers."""
    return [found.decode() for found in _ISSUED.findall(received)]
