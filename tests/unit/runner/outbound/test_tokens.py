"""Which token is used for how long, and who has another one issued."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import orjson
import pytest
from support.clocks import Clock

from runner.interpreter.errors import Kind, TaskFault, fault
from runner.outbound.policies import Client, OAuth2, OpenIdConnect
from runner.outbound.tokens import MAX_TOKENS, PROVIDER_SECONDS, Tokens


@dataclass
class StubResponse:
    body: bytes
    status: int = 200
    retry_after_ms: int = 0


@dataclass
class StubServer:
    """Issues `token-1`, `token-2`, …; fails when it is told to."""

    expires_in: float = 3600
    requested: list[str] = field(default_factory=list)
    failing: bool = False

    async def send(self, method, url, *, headers, body=None):
        self.requested.append(f"{method} {url}")
        await asyncio.sleep(0)
        if self.failing:
            raise fault(Kind.COMMUNICATION, "gone")
        if method == "GET":
            message = {"issuer": "https://a.example", "token_endpoint": "https://a.example/token"}
        else:
            message = {
                "access_token": f"token-{len(self.requested)}",
                "token_type": "Bearer",
                "expires_in": self.expires_in,
            }
        return StubResponse(orjson.dumps(message))


@pytest.fixture
def server():
    return StubServer()


@pytest.fixture
def clock():
    return Clock(1000.0)


@pytest.fixture
def tokens(clock):
    return Tokens(clock, lambda: 1_700_000_000.0)


def policy(secret="s3cret", **more):
    client = Client(id="me", secret=secret)
    return OAuth2(authority="https://a.example", grant="client_credentials", client=client, **more)


@pytest.mark.parametrize(("expires_in", "good_for"), [(3600, 3570), (100, 90), (0, 0)])
async def test_a_token_is_used_until_shortly_before_it_expires(tokens, server, clock, expires_in, good_for):
    server.expires_in = expires_in
    assert await tokens.get(policy(), server.send) == ("token-1", False)
    if good_for:
        clock.now += good_for - 1
        assert await tokens.get(policy(), server.send) == ("token-1", True)
        clock.now += 1
    assert await tokens.get(policy(), server.send) == ("token-2", False)


async def test_whoever_has_other_credentials_or_wants_something_else_gets_another_token(tokens, server):
    policies = [policy(), policy("other"), policy(scopes=["a"]), policy(audiences=["a"]), policy(scopes=["a", "b"])]
    assert len({await tokens.get(each, server.send) for each in policies}) == len(policies)
    assert [await tokens.get(each, server.send) for each in policies] == [
        (f"token-{number + 1}", True) for number in range(len(policies))
    ]


async def test_those_who_ask_at_the_same_time_share_one_request(tokens, server):
    got = await asyncio.gather(*(tokens.get(policy(), server.send) for _ in range(20)))
    assert {token for token, _ in got} == {"token-1"}
    assert len(server.requested) == 1


async def test_a_refused_token_is_replaced_once_however_many_it_was_refused_to(tokens, server):
    await tokens.get(policy(), server.send)
    got = await asyncio.gather(*(tokens.get(policy(), server.send, refused="token-1") for _ in range(5)))
    assert {token for token, _ in got} == {"token-2"}
    assert len(server.requested) == 2


async def test_who_is_called_off_or_fails_leaves_the_others_their_turn(tokens, server):
    first, second = (asyncio.create_task(tokens.get(policy(), server.send)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == ("token-2", False)
    server.failing = True
    with pytest.raises(TaskFault):
        await tokens.get(policy("other"), server.send)
    server.failing = False
    assert (await tokens.get(policy("other"), server.send))[0] == "token-4"


async def test_so_many_tokens_are_cached_and_no_more(tokens, server):
    for number in range(MAX_TOKENS + 1):
        await tokens.get(policy(str(number)), server.send)
    assert await tokens.get(policy("1"), server.send) == ("token-2", True)
    assert (await tokens.get(policy("0"), server.send))[1] is False


async def test_the_configuration_of_a_provider_is_requested_once_an_hour(tokens, server, clock):
    def openid(scope):
        return OpenIdConnect(authority="https://a.example", grant="client_credentials", scopes=[scope])

    for scope in "ab":
        await tokens.get(openid(scope), server.send)
    clock.now += PROVIDER_SECONDS
    await tokens.get(openid("c"), server.send)
    assert [requested.partition(" ")[0] for requested in server.requested] == ["GET", "POST", "POST", "GET", "POST"]


async def test_nothing_that_is_retained_shows_a_credential(tokens, server):
    await tokens.get(policy(), server.send)
    assert not [shown for shown in (repr(tokens._entries), repr(policy())) if "token-1" in shown or "s3cret" in shown]
