"""Authentication policies of calls (dsl-reference.md, "Authentication"), from the document to the server."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
from support.http_servers import http_server
from support.tokens import Authority, DigestServer

ACCOUNT = {"username": "admin", "password": "pass word"}
USE = """
use:
  secrets: [account, client]
  authentications:
    by-name: {digest: {username: '${ .user }', password: pass word}}
    by-secret: {digest: {use: account}}
"""
GRANT = "authority: URL, grant: client_credentials, client: {id: me, secret: s3cret}"


@pytest.fixture
async def serve():
    """Serve HTTP with a handler on a free port; returns the base URL."""
    async with AsyncExitStack() as stack:
        yield lambda handler: stack.enter_async_context(http_server(handler))


def call(url, policy):
    endpoint = f"{{uri: '{url}/x', authentication: {policy.replace('URL', url)}}}"
    output = "{as: '${ {content: ., $authorization} }'}"
    return f"{USE}do:\n  - ask: {{call: http, with: {{method: get, endpoint: {endpoint}}}, output: {output}}}\n"


@pytest.mark.parametrize(
    "policy",
    [
        "{digest: {username: admin, password: pass word}}",
        "{digest: {username: '${ .user }', password: '${ $secrets.account.password }'}}",
        "{digest: {use: account}}",
        "{use: by-name}",
        "{use: by-secret}",
    ],
)
async def test_digest_inline_by_name_and_by_secret(run, serve, policy):
    url = await serve(DigestServer(ACCOUNT["password"]).handle)
    output = (await run(call(url, policy), {"user": "admin"}, secrets={"account": ACCOUNT, "client": {}})).output
    assert output["content"]["body"] == ""
    assert output["authorization"] == {"scheme": "Digest", "parameter": None}


@pytest.mark.parametrize(
    "policy",
    [
        "{oauth2: {" + GRANT + "}}",
        "{oauth2: {" + GRANT + ", endpoints: {token: '/{realm}/token', introspection: /unused}}}",
        "{oauth2: {use: client}}",
        "{oidc: {" + GRANT + ", scopes: [api], audiences: [runtime]}}",
        "{oidc: {use: client}}",
    ],
)
async def test_oauth2_and_openid_connect_inline_and_by_secret(run, serve, policy):
    authority = Authority()
    authority.url = await serve(authority.handle)
    client = {"authority": authority.url, "grant": "client_credentials", "client": {"id": "me", "secret": "s3cret"}}
    secrets = {"account": ACCOUNT, "client": client}
    output = (await run(call(authority.url, policy), {"realm": "oauth2"}, secrets=secrets)).output
    assert output["content"] == {"you": "are welcome"}
    assert output["authorization"] == {"scheme": "Bearer", "parameter": None}
    ((form, _),) = authority.requested
    assert (form["client_id"], form["client_secret"]) == ("me", "s3cret")
