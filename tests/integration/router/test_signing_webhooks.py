"""FlowService.SignWebhook: what a router signs, for whom, and what it reveals."""

from __future__ import annotations

import pytest
import pytest_asyncio
from support.routers import running_router

from flowhook.document.loader import load_definition
from flowhook.errors import InvalidError, NotFoundError, PermissionDeniedError
from flowhook.signatures.build import build_verifiers
from flowhook.signatures.types import RequestView, verify_any

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = b"hush-0123456789-abcdefghijklmnop"
FLOW = b"""
document: {dsl: 1.0.3, namespace: default, name: NAME, version: 1.0.0}
webhook: {auth: AUTH}
do: [{keep: {set: {seen: 1}}}]
"""


def flow(name, auth):
    return FLOW.replace(b"NAME", name).replace(b"AUTH", auth)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def router(tmp_path_factory):
    async with running_router(tmp_path_factory.mktemp("router") / "data") as running, running.client() as client:
        await client.secrets.set("k", SECRET)
        await client.secrets.set("other", b"unrelated-" + SECRET)
        await client.flows.apply(
            [flow(b"signed", b"{github: {secret: k}}"), flow(b"keyed", b"{api_key: {header: X-Key, secret: k}}")]
        )
        yield running


async def test_a_request_is_signed_by_the_secret_that_is_set_now(router):
    async with router.client() as client:
        for value in (SECRET, b"rotated-" + SECRET):
            await client.secrets.set("k", value)
            signed = await client.flows.sign_webhook(
                "signed", "https://h/ignored/path", b"{}", headers=[("X-GitHub-Event", "push")]
            )
            assert (signed.method, signed.url, signed.auth_kind) == ("POST", "https://h/hook/signed", "github")
            webhook = load_definition((await client.flows.get("signed")).definition).webhook
            request = RequestView("POST", signed.url, "/hook/signed", "", signed.headers, signed.body)
            assert verify_any(build_verifiers(webhook.auth, {"k": value}), request, 0.0).secret == "k"
            assert dict(signed.headers)["x-github-event"] == b"push"
            assert value.decode() not in repr(signed)


async def test_a_secret_that_the_sender_sends_stays_in_the_router(router):
    async with router.client() as client:
        signed = await client.flows.sign_webhook("keyed", "https://h", b"{}", headers=[("x-key", "captured")])
        assert signed.credential == ("header", "X-Key")
        assert SECRET not in b"".join(value for _, value in signed.headers)
        assert "x-key" not in dict(signed.headers)


@pytest.mark.parametrize("role", ["view", "edge", "runner"])
async def test_only_an_admin_gets_requests_signed(router, role):
    async with router.client(role) as client:
        with pytest.raises(PermissionDeniedError):
            await client.flows.sign_webhook("signed", "https://h", b"{}")


@pytest.mark.parametrize(
    ("arguments", "options", "reason"),
    [
        (("https://h", b"x" * (1024 * 1024 + 1)), {}, "BODY_TOO_LARGE"),
        (("ftp://h", b""), {}, "URL_INVALID"),
        (("https://[", b""), {}, "URL_INVALID"),
        (("https://a b", b""), {}, "URL_INVALID"),
        (("https://a\nb", b""), {}, "URL_INVALID"),
        (("https://user:pass@h", b""), {}, "URL_INVALID"),
        (("https://h:port", b""), {}, "URL_INVALID"),
        (("https://" + "h" * 3000, b""), {}, "URL_INVALID"),
        (("https://h", b""), {"headers": [("x", "y")] * 101}, "HEADER_INVALID"),
        (("https://h", b""), {"headers": [("x", "a\r\nb: c")]}, "HEADER_INVALID"),
        (("https://h", b""), {"headers": [("x:", "a")]}, "HEADER_INVALID"),
        (("https://h", b""), {"headers": [("Transfer-Encoding", "chunked")]}, "HEADER_INVALID"),
        (("https://h", b""), {"content_type": "a\nb"}, "HEADER_INVALID"),
        (("https://h", b""), {"method": "PUT"}, "METHOD_NOT_ACCEPTED"),
    ],
)
async def test_what_can_not_be_sent_is_refused(router, arguments, options, reason):
    async with router.client() as client:
        with pytest.raises(InvalidError) as error:
            await client.flows.sign_webhook("signed", *arguments, **options)
    assert error.value.reason == reason


async def test_a_flow_that_does_not_exist_is_not_found(router):
    async with router.client() as client:
        with pytest.raises(NotFoundError):
            await client.flows.sign_webhook("nope", "https://h", b"{}")
