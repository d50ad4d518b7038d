"""Requests that were refused are told to the router, without a credential, and with what was wrong."""

from __future__ import annotations

import asyncio
import hashlib
import hmac

from support.patience import PATIENCE

from flowhook.v1.rejection_service_pb2 import Rejection

KEY = b"sesame"


def signed(body, key=KEY):
    digest = hmac.new(key, body, hashlib.sha256).hexdigest()
    return [("Content-Type", "application/json"), ("X-Hub-Signature-256", f"sha256={digest}"), ("X-Other", "shown")]


async def reported(edge, count):
    async with asyncio.timeout(PATIENCE):
        while len(edge.router.rejections) < count:
            await asyncio.sleep(0.02)
    return edge.router.rejections


async def test_a_signature_that_does_not_match_is_reported_with_what_would_have(edge):
    edge.router.secrets = {"k": KEY, "other": b"open"}
    edge.router.put_flow("blog", auth={"github": {"secret": "k"}}, keep_rejected_bodies=True)
    edge.router.put_flow("shop", auth={"github": {"secret": "other"}})
    assert (await edge.post("/hook/shop", b"{}", signed(b"{}", b"open"))).status == 202
    assert (await edge.post("/hook/blog?a=1", b"{}", signed(b"{}", b"open"))).status == 401
    assert (await edge.post("/hook/blog", b'{"a": 1}', signed(b'{"a":1}'))).status == 401
    first, second = await reported(edge, 2)
    assert (first.flow_id, first.status, first.reason) == ("blog", 401, "SIGNATURE_MISMATCH")
    assert "credentials of flow shop" in first.detail
    assert (first.method, first.path, first.query, first.address) == ("POST", "/hook/blog", "a=…", "127.0.0.1")
    assert (first.body, first.body_size) == (b"{}", 2)
    assert first.id.startswith("rej_")
    fields = {field.name: field.value for field in first.headers}
    assert fields["x-hub-signature-256"] == b"[71 bytes]"
    assert (fields["x-other"], fields["content-type"]) == (b"[5 bytes]", b"application/json")
    assert "wrote it again" in second.detail


async def test_what_is_refused_for_other_reasons_is_reported_too(edge):
    edge.router.put_flow("open", max_body="10B")
    edge.router.put_flow("keyed", auth={"api_key": {"query": "key", "secret": "key"}})
    edge.router.put_flow("near", allow_from=["192.0.2.0/24"])
    json = [("Content-Type", "application/json")]
    await edge.post("/hook/open", b"{", json)
    await edge.post("/hook/open", b"{}", json, method="PUT")
    await edge.post("/hook/open", b"[1,2,3,4,5,6]", json)
    await edge.post("/hook/keyed?key=wrong-key", b"{}", json)
    await edge.post("/hook/near", b"{}", json)
    await edge.post("/hook/nobody", b"{}", json)
    found = {(each.flow_id, each.status, each.reason) for each in await reported(edge, 5)}
    assert found == {
        ("open", 400, "BODY_INVALID"),
        ("open", 405, "METHOD_NOT_ALLOWED"),
        ("open", 413, "BODY_TOO_LARGE"),
        ("keyed", 401, "CREDENTIALS_WRONG"),
        ("near", 403, "ADDRESS_FORBIDDEN"),
    }
    assert not any(b"wrong-key" in each.SerializeToString() or each.body for each in edge.router.rejections)


async def test_what_repeats_a_wrong_key_is_not_reported(edge):
    edge.router.put_flow("keyed", auth={"api_key": {"query": "key", "secret": "key"}})
    target = "/hook/keyed?key=guess%2Dkey"
    headers = [("User-Agent", "x?key=guess-key"), ("X-Forwarded-Host", "h/%3Fkey%3Dguess%252Dkey"), ("Accept", "*/*")]
    assert (await edge.post(target, b"{}", headers)).status == 401
    (found,) = await reported(edge, 1)
    fields = {field.name: field.value for field in found.headers}
    assert (fields["user-agent"], fields["x-forwarded-host"], fields["accept"]) == (
        b"[15 bytes]",
        b"[24 bytes]",
        b"*/*",
    )
    assert b"guess" not in found.SerializeToString()


async def test_a_flood_is_reported_in_part_and_counted(edge):
    edge.router.put_flow("open")
    sender = await edge.connect()
    for _ in range(60):
        await sender.request("PUT", "/hook/open", body=b"")
    await reported(edge, 25)
    assert len(edge.router.rejections) < 60


async def test_a_one_time_token_is_not_reported(edge):
    edge.router.put_flow("open", callbacks={"done": {"auth": "none", "max_body": "10B"}})
    token = "0123456789abcdefghjkmnpqrs.0.abcdefghijklmnopqrstuvwxyz"
    headers = [("Content-Type", "application/json"), ("Referer", f"http://h/hook/open/done/{token}")]
    assert (await edge.post(f"/hook/open/done/{token}", b"[1,2,3,4,5,6]", headers)).status == 413
    (found,) = await reported(edge, 1)
    assert (found.callback, found.path) == ("done", "/hook/open/done/…")
    assert token.encode() not in found.SerializeToString()


KEYED = {"api_key": {"header": "X-Api-Key", "secret": "key"}}


async def test_a_request_is_enclosed_only_if_the_flow_stores_refused_requests(edge):
    for name, stored in (("stored", True), ("unstored", False)):
        edge.router.put_flow(name, auth=KEYED, keep_rejected_bodies=stored)
        headers = [("Content-Type", "application/json"), ("X-Api-Key", "wrong-key")]
        assert (await edge.post(f"/hook/{name}?a=b", b"{}", headers)).status == 401
    stored, unstored = sorted(await reported(edge, 2), key=lambda each: each.flow_id)
    assert (stored.acceptability, unstored.acceptability) == (Rejection.ACCEPTABILITY_ACCEPTABLE, 3)
    assert (stored.original.target, stored.original.peer, stored.body) == ("/hook/stored?a=b", "127.0.0.1", b"{}")
    assert ("x-api-key", b"wrong-key") in [(field.name, field.value) for field in stored.original.headers]
    assert not unstored.HasField("original")
    assert b"wrong-key" not in unstored.SerializeToString()


async def test_a_sender_that_leaves_before_its_body_is_complete_is_reported_too(edge):
    edge.router.put_flow("left", auth=KEYED, keep_rejected_bodies=True)
    sender = await edge.connect()
    sender.write(b"POST /hook/left HTTP/1.1\r\nHost: h\r\nX-Api-Key: wrong\r\nContent-Length: 9\r\n\r\n{")
    sender.close()
    (found,) = await reported(edge, 1)
    assert (found.reason, found.acceptability) == ("CREDENTIALS_WRONG", Rejection.ACCEPTABILITY_INCOMPLETE)


async def test_a_request_with_too_large_a_head_is_reported_without_it(edge):
    edge.router.put_flow("headed", auth=KEYED, keep_rejected_bodies=True)
    headers = [("Content-Type", "application/json"), ("X-Api-Key", "wrong"), ("X-Large", "x" * 30_000)]
    assert (await edge.post("/hook/headed", b"{}", headers)).status == 401
    (found,) = await reported(edge, 1)
    assert found.acceptability == Rejection.ACCEPTABILITY_INCOMPLETE
    assert not found.HasField("original")
