"""Payloads as GitHub sends them come back byte for byte: ours, of every shape, and real ones where they are at hand."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from urllib.parse import quote_plus

import orjson
import pytest
from support.systems import document

PAYLOADS = Path(__file__).parents[3] / "shared" / "payloads" / "github"

SENDER = b'"sender":{"login":"ada","id":1,"site_admin":false}'
PLAIN = b'{"action":"opened","issue":{"number":7,"title":"It breaks","assignee":null},' + SENDER + b"}"
SHAPES = {
    "an action": (PLAIN, "opened"),
    "no action": (b'{"ref":"refs/heads/main","commits":[],"base_ref":null,' + SENDER + b"}", None),
    "characters as they are": ('{"action":"grüße 🎉",'.encode() + SENDER + b"}", "grüße 🎉"),
    "characters escaped": (rb'{"action":"gr\u00fc\u00dfe \ud83c\udf89 a\/b",' + SENDER + b"}", "grüße 🎉 a/b"),
    "on many lines": (b'{\r\n  "action" : "opened",\n\t' + SENDER + b"\n}\n", "opened"),
    "numbers that are written again differently": (
        b'{"action":"scored","id":9007199254740993,"score":1.0,"share":1E-2,' + SENDER + b"}",
        "scored",
    ),
    "a name that comes twice": (b'{"action":"first","action":"last",' + SENDER + b"}", "last"),
    "hundreds of kilobytes": (
        b'{"action":"pushed","patch":"' + b"+ line\\n" * 50_000 + b'",' + SENDER + b"}",
        "pushed",
    ),
}
"""Body, and the action that a flow sees in it."""

pytestmark = pytest.mark.e2e


async def github_sends(system, flow, body, event, content_type="application/json"):
    signature = hmac.new(b"known", body, hashlib.sha256).hexdigest()
    headers = {"X-GitHub-Event": event, "X-Hub-Signature-256": f"sha256={signature}", "Content-Type": content_type}
    return (await system.request("POST", f"/hook/{flow}", data=body, headers=headers)).id


async def applied(system):
    """Apply a flow that looks at what all payloads have in common, and return its ID."""
    await system.secrets(github_payloads="known")
    look = "- look: {set: {action: '${ .body.action }', sender: '${ .body.sender.login }'}}"
    await system.apply(document("github-payloads", webhook="{auth: {github: {secret: github-payloads}}}", do=look))
    return "github-payloads"


async def test_a_payload_of_every_shape_is_executed_and_comes_back_byte_for_byte(system):
    flow = await applied(system)
    sent = {shape: await github_sends(system, flow, body, "issues") for shape, (body, _) in SHAPES.items()}
    for shape, execution_id in sent.items():
        body, action = SHAPES[shape]
        assert await system.completed(execution_id) == {"action": action, "sender": "ada"}, shape
        assert (await system.client.executions.get(execution_id)).event.body == body, shape
    for shape in ("on many lines", "numbers that are written again differently"):
        assert await system.raw_body(sent[shape]) == SHAPES[shape][0]


async def test_a_payload_in_a_form_is_executed_and_comes_back_byte_for_byte(system):
    await system.secrets(github_forms="known")
    look = "- look: {set: {action: '${ .body.payload | fromjson | .action }'}}"
    await system.apply(document("github-forms", webhook="{auth: {github: {secret: github-forms}}}", do=look))
    body = b"payload=" + quote_plus(PLAIN).encode()
    execution_id = await github_sends(system, "github-forms", body, "issues", "application/x-www-form-urlencoded")
    assert await system.completed(execution_id) == {"action": orjson.loads(PLAIN)["action"]}
    assert await system.raw_body(execution_id) == body


@pytest.mark.skipif(not PAYLOADS.is_dir(), reason="no shared payloads beside the clone")
async def test_every_real_payload_is_executed_and_comes_back_byte_for_byte(system):
    flow = await applied(system)
    payloads = {path.name: path.read_bytes() for path in sorted(PAYLOADS.glob("*.json"))}
    assert payloads
    sent = {name: await github_sends(system, flow, body, name.partition(".")[0]) for name, body in payloads.items()}
    for name, execution_id in sent.items():
        assert (await system.completed(execution_id)).keys() == {"action", "sender"}
        assert (await system.client.executions.get(execution_id)).event.body == payloads[name]
    # the command takes its time to start, so a few of them stand for all
    for name in list(payloads)[::5]:
        assert await system.raw_body(sent[name]) == payloads[name]
