"""`webhook.send` and `email.send` from a flow, in a child as runners have them, whose environment is cleared."""

from __future__ import annotations

import asyncio
import json

import pytest
from support.certificates import Authority
from support.commands import flowhook_process
from support.smtp import smtp_server

from runner.components.testing import Answer, receiver

HEAD = "document: {dsl: 1.0.3, namespace: default, name: tell, version: 1.0.0}\nwebhook: {auth: none}\n"
WEBHOOK = HEAD + (
    "do:\n  - tell:\n      call: webhook.send\n"
    "      with: {url: '${ .body.url }', body: '${ .body.order }', secret: partner, headers: {X-Source: '${ .id }'}}\n"
)
IN_AN_HOUR = "execution: {retry: {delay: PT1H, limit: {attempt: {count: 1}}}}\n"
MAIL = HEAD + (
    "do:\n  - tell:\n      call: email.send\n      with:\n        to: ['${ .body.to }']\n"
    "        from: shop@example.org\n"
    "        subject: '${ \"Order \\(.body.order)\" }'\n        text: Thank you\n"
)


@pytest.fixture
def execute(tmp_path):
    async def run(text, body, secret, *options, **environment):
        path = tmp_path / "flow.yaml"
        path.write_text(text)
        arguments = ["exec", path, "--json", "--input", json.dumps(body), "--secret", secret, *options]
        return await asyncio.to_thread(flowhook_process, *arguments, **environment)

    return run


async def test_a_flow_sends_a_webhook(execute):
    async with receiver(Answer(202, json={"ok": True})) as partner:
        result = await execute(
            WEBHOOK, {"url": partner.url, "order": {"n": 1}}, "partner=whsec_c2VjcmV0", "--allow-private-addresses"
        )
    assert (result.code, result.rows[0]["status"], result.rows[0]["body"]) == (0, 202, {"ok": True})
    headers = partner.received[0].headers
    assert headers["webhook-id"] == headers["idempotency-key"] == f"{headers['x-source']}:/do/0/tell#0"


async def test_a_flow_sends_an_email_over_tls_that_the_environment_trusts(execute, tmp_path):
    authority = Authority(tmp_path)
    async with smtp_server(tls="starttls", certificate=authority.issue("mail"), auth=True) as box:
        server = {"host": "127.0.0.1", "port": box.port, "username": "ada", "password": "correct horse battery"}
        result = await execute(
            MAIL,
            {"to": "ada@example.com", "order": 7},
            f"smtp={json.dumps(server)}",
            "--allow-private-addresses",
            SSL_CERT_FILE=authority.ca_file,
        )
    assert result.code == 0, result.err
    assert result.rows[0]["accepted"] == ["ada@example.com"]
    (delivered,) = box.delivered
    assert (delivered.tls, delivered.user, delivered.message["Subject"]) == (True, "ada", "Order 7")


async def test_neither_reaches_a_private_address_unless_allowed_and_fails_at_once(execute):
    webhook = await execute(IN_AN_HOUR + WEBHOOK, {"url": "http://169.254.169.254/", "order": 1}, "partner=x")
    server = json.dumps({"host": "169.254.169.254", "port": 25, "tls": "none"})
    mail = await execute(IN_AN_HOUR + MAIL, {"to": "ada@example.com", "order": 1}, f"smtp={server}")
    for result in (webhook, mail):
        assert result.code == 1
        assert json.loads(result.err)["status"] == 403
        assert "not allowed" in json.loads(result.err)["detail"]


async def test_a_call_of_this_machine_needs_no_option(execute):
    async with receiver(Answer(202, json={"ok": True})) as partner:
        result = await execute(WEBHOOK, {"url": partner.url, "order": {"n": 1}}, "partner=whsec_c2VjcmV0")
    assert (result.code, len(partner.received)) == (0, 1)
