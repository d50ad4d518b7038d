"""Authentication of `call: http` against real servers that ask for it."""

from __future__ import annotations

import asyncio
import base64

import orjson
import pytest
from aiohttp import web
from support.calls import kind
from support.tokens import Authority, DigestServer

from flowhook.process.settings import RunnerSettings
from flowhook.security.address_policy import AddressPolicy
from runner.components.base import SharedResources
from runner.components.registry import components
from runner.interpreter.effects import Perform
from runner.outbound.http_client import HttpClient
from runner.worker.effect_executor import EffectExecutor

ACCOUNT = {"username": "ada", "password": "pass:word of hers"}
SECRET = "s3cret-of-the-client"


@pytest.fixture
async def ask():
    """Call `http` with a policy, time and again in one process: `await ask(url, policy)` gives the `Result`."""
    settings = RunnerSettings(http_timeout=2.0)
    async with HttpClient(address_policy=AddressPolicy.ALL) as http, SharedResources(settings) as shared:
        caller = EffectExecutor(components(), http, settings, shared)

        async def perform(url, policy, **arguments):
            endpoint = {"uri": url, "authentication": policy}
            arguments = {"method": "get", **arguments, "endpoint": endpoint}
            return await caller.perform("evt_1", Perform("/do/0/ask#0", "http", arguments, "/do/0/ask"), None)

        yield perform


def content(result):
    assert result.error is None, result.error
    return orjson.loads(result.output)


@pytest.mark.parametrize("algorithm", ["MD5", "MD5-sess", "SHA-256", "SHA-256-sess"])
async def test_a_challenge_is_answered_and_so_are_later_requests_without_another_one(ask, http_server, algorithm):
    server = DigestServer(ACCOUNT["password"], algorithm)
    base = await http_server(server.handle)
    for number in range(3):
        result = await ask(f"{base}/a%2Fb?q={number}", {"digest": ACCOUNT}, method="post", body={"n": number})
        assert content(result) == {"body": f'{{"n":{number}}}', "key": "evt_1:/do/0/ask#0"}
    assert [status for status, _ in server.requests] == [401, 200, 200, 200]
    assert server.nonces == {"nonce/0==": {"00000001", "00000002", "00000003"}}


async def test_a_nonce_that_is_good_no_more_is_replaced(ask, http_server):
    server = DigestServer(ACCOUNT["password"], uses=2)
    base = await http_server(server.handle)
    for _ in range(4):
        content(await ask(base, {"digest": ACCOUNT}))
    assert [status for status, _ in server.requests] == [401, 200, 200, 401, 200, 200]


async def test_many_requests_at_a_time_all_come_through(ask, http_server):
    server = DigestServer(ACCOUNT["password"])
    base = await http_server(server.handle)
    results = await asyncio.gather(*(ask(base, {"digest": ACCOUNT}) for _ in range(20)))
    assert [content(result)["key"] for result in results] == ["evt_1:/do/0/ask#0"] * 20


async def test_a_challenge_is_found_among_others_and_what_can_not_be_answered_is_an_error(ask, http_server):
    server = DigestServer(ACCOUNT["password"], before=('Basic realm="here"', "Negotiate"))
    base = await http_server(server.handle)
    content(await ask(base, {"digest": ACCOUNT}))
    wrong = await ask(base, {"digest": {"username": "ada", "password": "wr0ng-password"}})
    assert kind(wrong.error) == ("communication", 401)
    assert [status for status, _ in server.requests] == [401, 200, 401, 401]
    server.algorithm = "SHA-512-256"
    server.nonces.clear()
    unknown = await ask(base, {"digest": ACCOUNT})
    assert kind(unknown.error) == ("communication", 401)
    assert not {"wr0ng-password", ACCOUNT["password"]} & {*wrong.error.detail.split(), *unknown.error.detail.split()}


async def test_another_origin_gets_no_answer_to_its_challenge(ask, http_server):
    other = DigestServer(ACCOUNT["password"])
    elsewhere = await http_server(other.handle)

    async def redirect(_request):
        raise web.HTTPTemporaryRedirect(elsewhere)

    base = await http_server(redirect)
    assert kind((await ask(base, {"digest": ACCOUNT}, redirect=True)).error) == ("communication", 401)
    assert [status for status, _ in other.requests] == [401]


@pytest.fixture
async def authority(http_server):
    authority = Authority()
    authority.url = await http_server(authority.handle)
    return authority


def oauth2(authority, **more):
    client = {"id": "me", "secret": SECRET}
    return {"oauth2": {"authority": authority.url, "grant": "client_credentials", "client": client, **more}}


async def test_a_token_is_requested_once_and_shown_with_each_request(ask, authority):
    for _ in range(3):
        assert content(await ask(f"{authority.url}/x", oauth2(authority, scopes=["a", "b"]))) == {"you": "are welcome"}
    ((form, headers),) = authority.requested
    assert form == {"grant_type": "client_credentials", "scope": "a b", "client_id": "me", "client_secret": SECRET}
    assert "idempotency-key" not in headers
    assert authority.shown == ["Bearer t0ken-1-of-the-authority"] * 3


async def test_a_token_that_expired_is_replaced(ask, authority):
    authority.expires_in = 0
    for _ in range(2):
        content(await ask(f"{authority.url}/x", oauth2(authority)))
    assert authority.shown == ["Bearer t0ken-1-of-the-authority", "Bearer t0ken-2-of-the-authority"]


async def test_a_cached_token_that_is_refused_is_replaced_once_and_a_new_one_is_not(ask, authority):
    content(await ask(f"{authority.url}/x", oauth2(authority)))
    authority.good.clear()
    content(await ask(f"{authority.url}/x", oauth2(authority)))
    assert len(authority.requested) == 2
    authority.good = _Nothing()
    result = await ask(f"{authority.url}/x", oauth2(authority))
    assert kind(result.error) == ("communication", 401)
    assert len(authority.requested) == 3
    result = await ask(f"{authority.url}/x", oauth2(authority, scopes=["other"]))
    assert kind(result.error) == ("communication", 401)
    assert len(authority.requested) == 4
    assert "t0ken" not in result.error.detail  # which the server repeats


class _Nothing(set):
    """Takes no token for good."""

    def __contains__(self, _token):
        return False


async def test_calls_at_the_same_time_share_a_token(ask, authority):
    results = await asyncio.gather(*(ask(f"{authority.url}/x", oauth2(authority)) for _ in range(20)))
    assert len([content(result) for result in results]) == 20
    assert len(authority.requested) == 1


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (
            {"grant": "password", "username": "ada", "password": "pw"},
            {"grant_type": "password", "username": "ada", "password": "pw", "client_id": "me", "client_secret": SECRET},
        ),
        (
            {
                "grant": "urn:ietf:params:oauth:grant-type:token-exchange",
                "subject": {"token": "hers", "type": "urn:ietf:params:oauth:token-type:jwt"},
                "audiences": ["b"],
                "request": {"encoding": "application/json"},
            },
            {
                "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
                "subject_token": "hers",
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "audience": "b",
                "client_id": "me",
                "client_secret": SECRET,
            },
        ),
        (
            {"client": {"id": "me", "secret": SECRET, "authentication": "client_secret_basic"}},
            {"grant_type": "client_credentials"},
        ),
    ],
)
async def test_other_grants_and_ways_to_ask_reach_the_server(ask, authority, policy, expected):
    content(await ask(f"{authority.url}/x", oauth2(authority, **policy)))
    ((form, headers),) = authority.requested
    assert form == expected
    basic = "Basic " + base64.b64encode(f"me:{SECRET}".encode()).decode()
    assert headers.get("authorization") == (basic if len(expected) == 1 else None)


async def test_an_openid_provider_says_itself_where_tokens_are(ask, authority):
    policy = {**oauth2(authority)["oauth2"], "issuers": [authority.url]}
    for end in ("", "/.well-known/openid-configuration"):
        content(await ask(f"{authority.url}/x", {"oidc": {**policy, "authority": authority.url + end}}))
    result = await ask(f"{authority.url}/x", {"oidc": {**policy, "issuers": ["https://other.example"]}})
    assert kind(result.error) == ("authentication", 401)
    assert len(authority.requested) == 2


@pytest.mark.parametrize(
    ("status", "expected"), [(401, ("authentication", 401, 0)), (503, ("communication", 503, 7_000))]
)
async def test_who_issues_tokens_may_refuse_or_fail(ask, authority, status, expected):
    authority.status, authority.headers = status, {"Retry-After": "7"}
    result = await ask(f"{authority.url}/x", oauth2(authority))
    assert (*kind(result.error), result.retry_after_ms) == expected
    assert "invalid_client" in result.error.detail
    assert SECRET not in result.error.detail
    assert not authority.shown


async def test_a_policy_that_can_not_be_carried_out_is_a_configuration_error_without_its_values(ask, authority):
    for policy in (
        oauth2(authority, grant="authorization_code"),
        oauth2(authority, client={"secret": SECRET}),
        oauth2(authority, secret=SECRET),
        {},
    ):
        result = await ask(f"{authority.url}/x", policy)
        assert kind(result.error) == ("configuration", 400)
        assert SECRET not in result.error.detail
    assert not authority.shown


async def test_an_authorization_of_the_authors_own_comes_first(ask, authority):
    authority.good.add("mine")
    headers = {"authorization": "Bearer mine"}
    content(await ask(f"{authority.url}/x", oauth2(authority), headers=headers))
    assert not authority.requested


async def test_a_token_is_requested_under_the_same_address_policy_and_deadline(call, authority, http_server):
    endpoint = {"uri": "https://192.0.2.1/", "authentication": oauth2(authority)}
    error = await call(allow=False, method="get", endpoint=endpoint)
    assert kind(error) == ("communication", 403)
    assert "not allowed" in error.detail
    assert not authority.requested
    forever = asyncio.Event()

    async def hang(_request):
        await forever.wait()
        return web.Response()

    authority.url = await http_server(hang)
    endpoint = {"uri": f"{authority.url}/x", "authentication": oauth2(authority)}
    assert kind(await call(method="get", endpoint=endpoint, seconds=0.2)) == ("timeout", 408)
    forever.set()


async def test_a_line_break_in_a_token_is_refused(ask, authority):
    result = await ask(f"{authority.url}/x", {"bearer": {"token": "t0ken\r\nX: 1"}})
    assert kind(result.error) == ("configuration", 400)
    assert "t0ken" not in result.error.detail
