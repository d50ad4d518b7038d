"""A request that was refused because of a mistake of ours is accepted once that is corrected, and runs once."""

from __future__ import annotations

import asyncio
import hashlib
import hmac

import pytest
from support.patience import PATIENCE

from flowhook.errors import ConflictError

BODY = b'{"order": 7}'


def signed(key, body=BODY):
    digest = hmac.new(key, body, hashlib.sha256).hexdigest()
    return {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={digest}"}


def blog(name, auth, **keys):
    extra = "".join(f", {key}: {value}" for key, value in keys.items())
    return (
        f"document: {{dsl: 1.0.3, namespace: default, name: {name}, version: 1.0.0}}\n"
        f"webhook: {{auth: {auth}, keep_rejected_bodies: true{extra}}}\n"
        "do: [{keep: {set: '${ .body }'}}]\n"
    ).encode()


async def refused(system, flow_id):
    """Return the latest rejection of a flow."""
    async with asyncio.timeout(PATIENCE):
        while not (found := [each async for each in system.client.rejections.list(flow_id=flow_id, limit=1)]):
            await asyncio.sleep(0.05)
    return found[0]


async def test_it_runs_once_after_the_secret_was_corrected_however_often_it_is_accepted(system):
    await system.secrets(wrong_key="typo")
    await system.client.flows.apply([blog("mended", "{github: {secret: wrong-key}}")])
    answer = await system.request("POST", "/hook/mended", data=BODY, headers=signed(b"right"))
    assert answer.status == 401
    rejection = await refused(system, "mended")
    assert rejection.acceptability == "acceptable"
    with pytest.raises(ConflictError, match="still refused: SIGNATURE_MISMATCH") as raised:
        await system.client.rejections.accept(rejection.id)
    assert raised.value.reason == "STILL_REFUSED"
    await system.secrets(wrong_key="right")
    accepted = await system.client.rejections.accept(rejection.id)
    again = await system.client.rejections.accept(rejection.id)
    assert (accepted.duplicate, again.duplicate) == (False, True)
    assert accepted.execution_id == again.execution_id == f"evt_{rejection.id.removeprefix('rej_')}"
    printed = await system.flowhook("rejections", "accept", rejection.id)
    assert printed.out == f"{rejection.id}: accepted as {accepted.event_id} (accepted before)\n"
    [shown] = (await system.flowhook("rejections", "show", rejection.id, "--json")).rows
    assert (shown["accepted_event"], shown["acceptability"]) == (accepted.event_id, "acceptable")
    [ran] = (await system.flowhook("executions", "get", accepted.execution_id, "--json")).rows
    assert ran["request"]["rejection"] == rejection.id
    unknown = await system.flowhook("rejections", "accept", "rej_none")
    assert (unknown.code, "no rejection rej_none" in unknown.err) == (1, True)
    detail = await system.ended(accepted.execution_id)
    assert detail.event.rejection_id == rejection.id
    assert detail.event.body == BODY
    found = await system.client.rejections.get(rejection.id)
    assert (found.accepted_event_id, found.accepted_at is not None) == (accepted.event_id, True)
    assert [each.id async for each in system.client.executions.list(flow_id="mended")] == [accepted.execution_id]
