"""Real payloads of GitHub, where somebody has them at hand, come back byte for byte."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

import pytest
from support.systems import document

PAYLOADS = Path(__file__).parents[3] / "shared" / "payloads" / "github"

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(not PAYLOADS.is_dir(), reason="no shared payloads beside the clone")]


async def github_sends(system, flow, body, event):
    signature = hmac.new(b"known", body, hashlib.sha256).hexdigest()
    headers = {"X-GitHub-Event": event, "X-Hub-Signature-256": f"sha256={signature}"}
    headers["Content-Type"] = "application/json"
    return (await system.request("POST", f"/hook/{flow}", data=body, headers=headers)).id


async def test_every_payload_is_executed_and_comes_back_byte_for_byte(system):
    await system.secrets(github_payloads="known")
    look = "- look: {set: {action: '${ .body.action }', sender: '${ .body.sender.login }'}}"
    await system.apply(document("github-payloads", webhook="{auth: {github: {secret: github-payloads}}}", do=look))
    payloads = {path.name: path.read_bytes() for path in sorted(PAYLOADS.glob("*.json"))}
    assert payloads
    sent = {
        name: await github_sends(system, "github-payloads", body, name.partition(".")[0])
        for name, body in payloads.items()
    }
    for name, execution_id in sent.items():
        assert (await system.completed(execution_id)).keys() == {"action", "sender"}
        assert (await system.client.executions.get(execution_id)).event.body == payloads[name]
    # the command takes its time to start, so a few of them stand for all
    for name in list(payloads)[::5]:
        assert await system.raw_body(sent[name]) == payloads[name]
