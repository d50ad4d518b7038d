"""An operator sees why a request was refused; the sender does not."""

from __future__ import annotations

import asyncio
import hashlib
import hmac

from support.patience import PATIENCE


async def test_an_operator_sees_why_a_signature_did_not_match(system):
    await system.client.secrets.set("blog-key", b"sesame")
    document = (
        "document: {dsl: 1.0.3, namespace: default, name: refused-blog, version: 1.0.0}\n"
        "webhook: {auth: {github: {secret: blog-key}}, keep_rejected_bodies: true}\n"
        "do: [{done: {set: {a: 1}}}]\n"
    )
    await system.client.flows.apply([document.encode()])
    sent, signed = b'{"a":1}', b'{"a": 1}'
    digest = hmac.new(b"sesame", signed, hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={digest}"}
    answer = await system.request("POST", "/hook/refused-blog", data=sent, headers=headers)
    assert (answer.status, b"anew" in answer.body) == (401, False)
    async with asyncio.timeout(PATIENCE):
        while not (listed := [each async for each in system.client.rejections.list(flow_id="refused-blog")]):
            await asyncio.sleep(0.05)
    assert (listed[0].reason, listed[0].headers, listed[0].body) == ("SIGNATURE_MISMATCH", (), b"")
    found = await system.client.rejections.get(listed[0].id)
    assert "wrote it again" in found.detail
    assert found.body == sent
    assert digest not in str(found.headers)
