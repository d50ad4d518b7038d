"""Stand-ins for what asks callers who they are: a digest server, and an authority that issues tokens."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class DigestServer:
    """Lets in who answers its challenge as RFC 7616 says; a nonce is good for `uses` requests, each with its count."""

    password: str
    algorithm: str = "SHA-256"
    before: tuple[str, ...] = ()
    uses: int = 1000
    requests: list[tuple[int, str]] = field(default_factory=list)
    nonces: dict[str, set[str]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)

    async def handle(self, request):
        body = await request.text()
        passes = self._passes(request)
        self.requests.append((200 if passes else 401, body))
        if passes:
            return web.json_response({"body": body, "key": request.headers["Idempotency-Key"]})
        nonce = f"nonce/{len(self.nonces)}=="
        self.nonces[nonce] = set()
        offer = f'Digest realm="here", nonce="{nonce}", qop="auth", algorithm={self.algorithm}, opaque="o"'
        answer = web.Response(status=401, text="x" * 100_000)
        for field_ in (*self.before, offer):
            answer.headers.add("WWW-Authenticate", field_)
        return answer

    def _passes(self, request):
        scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
        given = {name: quoted or plain for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^,\s]*))', rest)}
        counts = self.nonces.get(given.get("nonce"))
        if scheme != "Digest" or counts is None or len(counts) >= self.uses or given["nc"] in counts:
            return False
        counts.add(given["nc"])
        if given["uri"] != request.raw_path or given["opaque"] != "o" or given["algorithm"] != self.algorithm:
            return False
        return given["response"] == self._expected(request.method, given)

    def _expected(self, method, given):
        def h(text):
            function = hashlib.md5 if self.algorithm.startswith("MD5") else hashlib.sha256
            return function(text.encode()).hexdigest()

        key = h(f"{given['username']}:here:{self.password}")
        if self.algorithm.endswith("-sess"):  # made of the first answer to the challenge
            key = self.keys.setdefault(given["nonce"], h(f"{key}:{given['nonce']}:{given['cnonce']}"))
        between = f"{given['nonce']}:{given['nc']}:{given['cnonce']}:{given['qop']}"
        request = h(f"{method}:{given['uri']}")
        return h(f"{key}:{between}:{request}")


@dataclass
class Authority:
    """Issues tokens at `/oauth2/token`, and guards everything else below itself with them."""

    expires_in: int = 3600
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""
    requested: list[tuple[dict[str, str], dict[str, str]]] = field(default_factory=list)
    good: set[str] = field(default_factory=set)
    shown: list[str] = field(default_factory=list)

    async def handle(self, request):
        match request.path:
            case "/.well-known/openid-configuration":
                return web.json_response({"issuer": self.url, "token_endpoint": f"{self.url}/oauth2/token"})
            case "/oauth2/token":
                return await self._issue(request)
        shown = request.headers.get("Authorization", "")
        self.shown.append(shown)
        if shown.removeprefix("Bearer ") in self.good:
            return web.json_response({"you": "are welcome"})
        return web.Response(status=401, reason=f"No {shown}")

    async def _issue(self, request):
        form = dict(await request.post()) if request.content_type.endswith("urlencoded") else await request.json()
        self.requested.append((form, {name.lower(): value for name, value in request.headers.items()}))
        if self.status != 200:
            return web.json_response({"error": "invalid_client"}, status=self.status, headers=self.headers)
        token = f"t0ken-{len(self.requested)}-of-the-authority"
        self.good.add(token)
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": self.expires_in}
        return web.json_response(answer)
