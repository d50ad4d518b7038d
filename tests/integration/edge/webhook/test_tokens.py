"""Tokens of an issuer whose keys are fetched from a real server, and what happens when it rotates them or goes away."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey
from support.http_servers import http_server

from edge.webhook import key_cache

ISSUER, AUDIENCE = "https://issuer.example.com", "flowhook"


class Issuer:
    """An issuer of tokens, and the server that has its keys.

    Attributes:
        keys: that it shows.
        status: of its answers.
        asked: how often it was.
    """

    def __init__(self):
        self.keys = {"one": ECKey.generate_key("P-256"), "two": RSAKey.generate_key(2048)}
        self.status = 200
        self.requested = 0
        self.url = ""

    async def answer(self, _request):
        self.requested += 1
        shown = [key.as_dict(private=False) | {"kid": name} for name, key in self.keys.items()]
        return web.json_response({"keys": shown}, status=self.status)

    def token(self, key_id="one", *, key=None, algorithm=None, header=None, **claims):
        key = key or self.keys[key_id]
        algorithm = algorithm or ("ES256" if isinstance(key, ECKey) else "RS256")
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "somebody", "exp": now + 60, **claims}
        claims = {name: value for name, value in claims.items() if value is not None}
        protected = {"alg": algorithm, "kid": key_id, **(header or {})}
        return jwt.encode(protected, claims, key, algorithms=[algorithm])


@pytest.fixture
async def issuer():
    chosen = Issuer()
    async with http_server(chosen.answer) as base:
        chosen.url = f"{base}/keys"
        yield chosen


@pytest.fixture
async def edge(start_edge, issuer):
    edge = await start_edge(allow_private_addresses=True)
    edge.router.put_flow("api", auth={"jwt": {"jwks": issuer.url, "issuer": ISSUER, "audience": AUDIENCE}})
    return edge


async def status_of(edge, token, flow="api"):
    headers = [("Content-Type", "application/json"), ("Authorization", f"Bearer {token}")]
    return (await edge.post(f"/hook/{flow}", b"{}", headers)).status


async def test_a_token_of_any_key_is_accepted_and_the_keys_are_fetched_once(edge, issuer):
    tokens = [issuer.token("one"), issuer.token("two"), issuer.token("two", algorithm="PS256"), issuer.token("one")]
    assert await asyncio.gather(*(status_of(edge, token) for token in tokens)) == [202] * 4
    assert issuer.requested == 1
    assert sorted(event.principal.secret for event in edge.events()) == ["one", "one", "two", "two"]
    assert all("authorization" not in {field.name for field in event.headers} for event in edge.events())
    assert all(b"somebody" not in event.SerializeToString() for event in edge.events())


async def test_tokens_that_are_not_what_they_should_be_are_refused(edge, issuer):
    good = issuer.token()
    header, payload, signature = good.split(".")
    now = int(time.time())
    stranger = ECKey.generate_key("P-256")
    modulus = OctKey.import_key(issuer.keys["two"].as_pem(private=False).replace(b"-----", b""))
    refused = [
        f"{header}.{payload}.{signature[:-2]}",
        f"{header}.{payload}.",
        f"{header}.{payload}",
        f"{header}.{'f' if payload[0] == 'e' else 'e'}{payload[1:]}.{signature}",
        f"eyJhbGciOiJub25lIn0.{payload}.",
        issuer.token(key=stranger),
        issuer.token("two", key=modulus, algorithm="HS256"),
        issuer.token(exp=now - 61),
        issuer.token(exp=None),
        issuer.token(exp="tomorrow"),
        issuer.token(nbf=now + 120),
        issuer.token(iat=now + 120),
        issuer.token(iss="https://other.example.com"),
        issuer.token(iss=None),
        issuer.token(aud="others"),
        issuer.token(aud=["others"]),
        issuer.token(aud=None),
        issuer.token("three", key=stranger),
        issuer.token("", key=issuer.keys["one"]),
        good[:-1],
        "",
    ]
    assert [await status_of(edge, token) for token in refused] == [401] * len(refused)
    answer = await edge.post("/hook/api", b"{}")
    assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="flowhook"')
    assert await status_of(edge, issuer.token(aud=["others", AUDIENCE], nbf=now - 5, iat=now - 5)) == 202
    assert len(edge.events()) == 1


async def test_a_new_key_is_found_and_unknown_ones_do_not_make_us_ask_again_and_again(edge, issuer, monkeypatch):
    assert await status_of(edge, issuer.token()) == 202
    issuer.keys = {"new": ECKey.generate_key("P-256")}
    assert await status_of(edge, issuer.token("new")) == 401
    assert issuer.requested == 1
    monkeypatch.setattr(key_cache, "AGAIN_SECONDS", 0.0)
    assert await status_of(edge, issuer.token("new")) == 202
    assert issuer.requested == 2
    assert await status_of(edge, issuer.token("one", key=issuer.keys["new"])) == 401  # it was withdrawn


async def test_without_an_answer_what_is_known_stays_good_and_the_rest_is_asked_to_come_again(
    edge, issuer, monkeypatch
):
    issuer.status = 500
    headers = [("Content-Type", "application/json"), ("Authorization", f"Bearer {issuer.token()}")]
    answer = await edge.post("/hook/api", b"{}", headers)
    assert (answer.status, answer.json()["reason"]) == (503, "KEYS_UNAVAILABLE")
    assert "retry-after" in answer.headers
    issuer.status = 200
    monkeypatch.setattr(key_cache, "AGAIN_SECONDS", 0.0)
    assert await status_of(edge, issuer.token()) == 202
    issuer.status = 500
    monkeypatch.setattr(key_cache, "FRESH_SECONDS", 0.0)
    assert await status_of(edge, issuer.token()) == 202
    assert issuer.requested == 3


async def test_keys_of_one_publisher_are_fetched_at_a_bounded_pace(edge, issuer, monkeypatch):
    monkeypatch.setattr(key_cache, "AGAIN_SECONDS", 0.0)
    assert await status_of(edge, issuer.token()) == 202
    stranger = ECKey.generate_key("P-256")
    for number in range(key_cache.FETCHES_PER_MINUTE + 5):
        await status_of(edge, issuer.token(f"made up {number}", key=stranger))
    assert issuer.requested == 1 + key_cache.FETCHES_PER_MINUTE
    assert await status_of(edge, issuer.token()) == 202


async def test_keys_on_private_addresses_are_not_fetched_unless_the_setting_says_so(start_edge, issuer):
    edge = await start_edge()
    edge.router.put_flow("api", auth={"jwt": {"jwks": issuer.url, "issuer": ISSUER, "audience": AUDIENCE}})
    edge.router.put_flow(
        "tls",
        auth={"jwt": {"jwks": issuer.url.replace("http", "https"), "issuer": ISSUER, "audience": AUDIENCE}},
    )
    assert await status_of(edge, issuer.token()) == 503
    assert await status_of(edge, issuer.token(), "tls") == 503
    assert issuer.requested == 0


async def test_a_redirect_and_an_endless_answer_give_no_keys(edge, issuer):
    async def answer(request):
        if request.path == "/elsewhere":
            raise web.HTTPFound(issuer.url)
        return web.Response(body=b" " * 1_000_000 + b'{"keys": []}')

    async with http_server(answer) as base:
        for path in ("elsewhere", "endless"):
            edge.router.put_flow(path, auth={"jwt": {"jwks": f"{base}/{path}", "issuer": ISSUER, "audience": AUDIENCE}})
            assert await status_of(edge, issuer.token(), path) == 503
    assert issuer.requested == 0


async def test_other_credentials_do_not_wait_for_keys(edge, issuer):
    issuer.status = 500
    edge.router.put_flow(
        "both",
        auth=[
            {"jwt": {"jwks": issuer.url, "issuer": ISSUER, "audience": AUDIENCE}},
            {"api_key": {"header": "X-Api-Key", "secret": "key"}},
        ],
    )
    answer = await edge.post("/hook/both", b"{}", [("X-Api-Key", "a secret of sixteen")])
    assert (answer.status, issuer.requested) == (202, 0)
