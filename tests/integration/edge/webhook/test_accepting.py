"""What happens to a request that is let in."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac

import pytest
from support.patience import PATIENCE, seen_within

from flowhook.errors import InternalError, UnavailableError
from flowhook.events import ids


async def test_a_signed_request_is_stored_and_answered_with_its_id(edge, sign, hmac_auth):
    edge.router.put_flow("orders", auth=hmac_auth)
    body = b'{"order": 7}'

    answer = await edge.post("/hook/orders", body, sign(body))

    assert answer.status == 202
    assert answer.headers["content-type"] == "application/json"
    (event,) = edge.events()
    assert answer.json() == {"id": event.id}
    assert event.body == body
    assert event.flow_id == "orders"
    assert (event.principal.scheme, event.principal.secret) == ("hmac", "key")
    assert ids.slot_of_event(event.id) == ids.slot_of("orders")


async def test_a_request_to_a_flow_without_auth_is_stored_without_a_principal(edge):
    edge.router.put_flow("open")
    assert (await edge.post("/hook/open")).status == 202
    assert not edge.events()[0].HasField("principal")


async def test_nothing_is_answered_before_the_event_is_durable(edge):
    edge.router.put_flow("open")
    edge.router.gate.clear()
    post = asyncio.create_task(edge.post("/hook/open"))
    await edge.router.arrived.wait()
    assert not post.done()
    edge.router.gate.set()
    assert (await post).status == 202


async def test_many_requests_at_once_are_sent_in_batches_and_each_gets_its_own_answer(edge):
    edge.router.put_flow("open")
    await edge.post("/hook/open", b"-1")
    edge.router.gate.clear()
    edge.router.arrived.clear()
    posts = [asyncio.create_task(edge.post("/hook/open", b"%d" % number)) for number in range(40)]
    await edge.router.arrived.wait()
    edge.router.gate.set()

    answers = await asyncio.gather(*posts)

    by_id = {event.id: event.body for event in edge.events()}
    assert [by_id[answer.json()["id"]] for answer in answers] == [b"%d" % number for number in range(40)]
    assert len(edge.router.batches) < 40


async def test_the_request_is_retained_as_it_arrived_but_for_credentials_and_hop_by_hop_fields(edge):
    edge.router.put_flow("orders", auth={"api_key": {"header": "X-Api-Key", "secret": "key"}}, subpaths=True)
    headers = [
        ("Content-Type", "application/json; charset=utf-8"),
        ("X-B", "1"),
        ("X-Api-Key", "a secret of sixteen"),
        ("X-A", " 2 "),
        ("x-b", "3"),
        ("Cookie", "session=1"),
        ("Authorization", "Bearer abc"),
        ("Proxy-Authorization", "Basic abc"),
        ("Connection", "keep-alive, X-Private"),
        ("X-Private", "4"),
        ("TE", "trailers"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ]

    answer = await edge.post("/hook/orders/a%20b/c?x=1&y=%41", b" [1,  2] ", headers)

    assert answer.status == 202
    (event,) = edge.events()
    assert [(header.name, header.value) for header in event.headers] == [
        ("host", b"edge.test"),
        ("content-type", b"application/json; charset=utf-8"),
        ("x-b", b"1"),
        ("x-a", b"2"),
        ("x-b", b"3"),
        ("x-private", b"4"),
        ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("content-length", b"9"),
    ]
    assert (event.method, event.path, event.query) == ("POST", "/hook/orders/a%20b/c", "x=1&y=%41")
    assert event.content_type == "application/json; charset=utf-8"
    assert event.traceparent == "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert event.body == b" [1,  2] "


async def test_an_api_key_in_the_query_is_removed(edge):
    edge.router.put_flow("orders", auth={"api_key": {"query": "api_key", "secret": "key"}})
    target = "/hook/orders?a=1&api%5Fkey=a+secret%20of+sixteen&b=2"
    headers = [("X-Forwarded-Uri", target), ("X-Original-URL", target), ("Referer", f"http://a{target}"), ("X-A", "1")]
    answer = await edge.post(target, b"{}", headers)
    assert answer.status == 202
    (event,) = edge.events()
    assert event.query == "a=1&b=2"
    assert {header.name for header in event.headers} == {"host", "x-a", "content-length"}
    assert b"sixteen" not in event.SerializeToString()


@pytest.mark.parametrize(
    "repeated",
    [
        "/hook/orders?api_key=pass%2Fw%C3%B6rd+%2B1%25",
        "/hook/orders?api_key=pass/w%c3%b6rd%20%2b1%25",
        "http://h/?to=%2Fhook%2Forders%3Fapi_key%3Dpass%252fw%25c3%25b6rd%2B%252B1%2525",
        "x pass/wörd +1% y",
    ],
)
async def test_what_repeats_an_api_key_of_the_query_is_removed_whatever_the_header(edge, repeated):
    key = "pass/wörd +1%".encode()
    edge.router.put_secret("password", key)
    edge.router.put_flow("orders", auth={"api_key": {"query": "api_key", "secret": "password"}}, methods=["GET"])
    repeated = repeated.encode().decode("latin-1")
    headers = [("X-Forwarded-Url", repeated), ("User-Agent", repeated), ("X-Kept", "/hook/orders?api_key=")]
    target = "/hook/orders?api%5fkey=pass%2Fw%C3%B6rd+%2B1%25"
    sender = await edge.connect()
    lines = [f"GET {target} HTTP/1.1", "Host: h", *(f"{name}: {value}" for name, value in headers), "\r\n"]
    sender.write("\r\n".join(lines).encode("latin-1"))
    assert (await sender.response()).status == 202
    (event,) = edge.events()
    assert {header.name for header in event.headers} == {"host", "x-kept"}


async def test_what_repeats_a_signature_of_the_query_is_removed_too(edge):
    edge.router.put_flow("orders", auth={"hmac": {"query": "sig", "secret": "key", "content": "{body}"}})
    signature = hmac.digest(edge.router.secrets["key"], b"{}", "sha256").hex()
    target = f"/hook/orders?sig={signature}"
    assert (await edge.post(target, b"{}", [("X-Forwarded-Url", target)])).status == 202
    (event,) = edge.events()
    assert signature.encode() not in event.SerializeToString()


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", b"anything \xff"),
        ("application/xml", b"<a/>"),
        ("application/x-www-form-urlencoded", b"a=1&a=2"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n1\r\n--x--"),
        ("application/octet-stream", b"\x00\x01"),
        (None, b"{no type"),
        (None, b""),
        ("application/cloudevents+json", b'{"a": 1}'),
        ("Application/JSON", b"[]"),
        ("application/json", b'"scalar"'),
    ],
)
async def test_a_body_of_any_type_is_retained_whole(edge, content_type, body):
    edge.router.put_flow("open")
    headers = [] if content_type is None else [("Content-Type", content_type)]
    assert (await edge.post("/hook/open", body, headers)).status == 202
    (event,) = edge.events()
    assert event.body == body
    assert event.content_type == (content_type or "")


async def test_a_get_needs_no_body_even_when_it_names_json(edge):
    edge.router.put_flow("open", methods=["GET"])
    sender = await edge.connect()
    answer = await sender.request("GET", "/hook/open?x=1", headers=[("Content-Type", "application/json")])
    assert answer.status == 202
    assert edge.events()[0].query == "x=1"


@pytest.mark.parametrize("size", [1, 1000, 65536, 65537, 1_000_000])
async def test_bodies_of_any_size_arrive_whole(edge, sign, hmac_auth, size):
    edge.router.put_flow("orders", auth=hmac_auth)
    body = b'"' + b"x" * size + b'"'
    assert (await edge.post("/hook/orders", body, sign(body))).status == 202
    assert edge.events()[0].body == body


async def test_a_chunked_body_arrives_whole_and_the_connection_lives_on(edge, sign, hmac_auth):
    edge.router.put_flow("orders", auth=hmac_auth)
    body = b'{"order": "' + b"y" * 200_000 + b'"}'
    sender = await edge.connect()
    fields = "".join(f"{name}: {value}\r\n" for name, value in sign(body))
    sender.write(f"POST /hook/orders HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{fields}\r\n".encode())
    for start in range(0, len(body), 7001):
        piece = body[start : start + 7001]
        sender.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    sender.write(b"0\r\n\r\n")

    assert (await sender.response()).status == 202
    assert edge.events()[0].body == body
    assert (await sender.request("POST", "/hook/orders", body=body, headers=sign(body))).status == 202


async def test_a_body_in_single_bytes_arrives_whole(edge):
    edge.router.put_flow("open")
    sender = await edge.connect()
    request = b"POST /hook/open HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    for position in range(len(request)):
        sender.write(request[position : position + 1])
        await sender.writer.drain()
        await asyncio.sleep(0)
    assert (await sender.response()).status == 202
    assert edge.events()[0].body == b"hello"


async def test_a_sender_that_expects_it_gets_a_100_continue(edge):
    edge.router.put_flow("open")
    sender = await edge.connect()
    sender.write(b"POST /hook/open HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert await asyncio.wait_for(sender.reader.readuntil(b"\r\n\r\n"), PATIENCE) == b"HTTP/1.1 100 Continue\r\n\r\n"
    sender.write(b"{}")
    assert (await sender.response()).status == 202


async def test_the_configured_response_is_sent(edge):
    edge.router.put_flow(
        "bank",
        respond={"status": 200, "headers": {"X-Thanks": "yes"}, "body": {"got": "${ .body.n }", "id": "${ .id }"}},
    )
    answer = await edge.post("/hook/bank", b'{"n": [1]}')
    assert (answer.status, answer.headers["x-thanks"]) == (200, "yes")
    assert answer.json() == {"got": [1], "id": edge.events()[0].id}


@pytest.mark.parametrize("depth", [300, 1000])
async def test_data_of_any_depth_are_accepted_whatever_expressions_make_of_them(edge, depth):
    edge.router.put_flow(
        "deep",
        respond={"headers": {"X-Body": "${ .body }", "X-Text": '${ "\\(.body)" }'}, "body": ["${ .body }", "${ .id }"]},
        dedupe={"key": "${ .body }"},
    )
    edge.router.put_flow("text", respond={"body": '${ "got \\(.body)" }'}, dedupe={"key": '${ "\\(.body)" }'})
    body = b"[" * depth + b"]" * depth
    for target in ("/hook/deep", "/hook/text"):
        assert (await edge.post(target, body)).status == 202
        assert (await edge.post(target, body)).status == 202
    assert edge.events()


async def test_what_is_large_in_the_end_does_not_spoil_a_batch_for_others(edge):
    """What a sender writes into Content-Type comes twice in an event, each byte beyond ASCII as two."""
    edge.router.put_flow("open")
    await edge.post("/hook/open")
    edge.router.gate.clear()
    fields = b"Content-Type: " + b"\xff" * 60_000
    senders = [await edge.connect() for _ in range(250)]
    for sender in senders:
        sender.write(b"POST /hook/open HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n" + fields + b"\r\n\r\n")
        await sender.writer.drain()
    await edge.router.arrived.wait()
    edge.router.gate.set()
    assert {(await sender.response()).status for sender in senders} == {202}


async def test_a_response_without_content_leaves_the_connection_usable(edge):
    edge.router.put_flow("bank", respond={"status": 204})
    sender = await edge.connect()
    for _ in range(2):
        answer = await sender.request("POST", "/hook/bank", body=b"x")
        assert (answer.status, answer.headers.get("content-length")) == (204, None)


async def test_a_repeated_delivery_is_answered_with_the_first_ones_id(edge):
    edge.router.put_flow("orders", dedupe={"key": '${ .headers["x-delivery"] }'})
    headers = [("X-Delivery", "d-1")]
    first = await edge.post("/hook/orders", b"a", headers)
    again = await edge.post("/hook/orders", b"b", headers)
    other = await edge.post("/hook/orders", b"c", [("X-Delivery", "d-2")])

    assert first.json() == again.json() != other.json()
    assert [event.dedupe_key for event in edge.events()] == ["none:d-1", "none:d-2"]


@pytest.mark.parametrize(
    "options", [[], ["X-Delivery"], ["close, x-signature,x-delivery"], ["content-type", "X-Delivery"]]
)
async def test_connection_options_hide_nothing_by_which_a_delivery_is_known_again(edge, sign, hmac_auth, options):
    edge.router.put_flow("orders", auth=hmac_auth, dedupe={"key": '${ .headers["x-delivery"] }'})
    body = b'{"n": 1}'
    headers = [*sign(body), ("X-Delivery", "d-1")]
    first = await edge.post("/hook/orders", body, headers)
    again = await edge.post("/hook/orders", body, [*(("Connection", option) for option in options), *headers])
    assert (first.status, again.status) == (202, 202)
    assert again.json() == first.json()
    assert len(edge.events()) == 1


async def test_basic_credentials_are_checked_and_not_retained(edge):
    edge.router.put_flow("bank", auth={"basic": {"username": "bank", "secret": "key"}})
    credentials = base64.b64encode(b"bank:a secret of sixteen").decode()
    assert (await edge.post("/hook/bank", b"x", [("Authorization", f"Basic {credentials}")])).status == 202
    (event,) = edge.events()
    assert event.principal.scheme == "basic"
    assert b"sixteen" not in event.SerializeToString()
    assert credentials.encode() not in event.SerializeToString()


async def test_any_of_several_kinds_of_credentials_will_do(edge, sign, hmac_auth):
    edge.router.put_flow("both", auth=[hmac_auth, {"api_key": {"header": "X-Api-Key", "secret": "key"}}])
    by_key = await edge.post("/hook/both", b"{}", [("X-Api-Key", "a secret of sixteen")])
    by_signature = await edge.post("/hook/both", b"{}", sign(b"{}"))
    assert (by_key.status, by_signature.status) == (202, 202)
    assert [event.principal.scheme for event in edge.events()] == ["api_key", "hmac"]


async def test_the_signed_url_is_the_public_one(start_edge, router):
    auth = {"hmac": {"secret": "key", "header": "X-Signature", "content": "{url}{body}"}}
    router.put_flow("orders", auth=auth)

    def headers(url):
        return [("X-Signature", hmac.new(b"a secret of sixteen", url + b"{}", hashlib.sha256).hexdigest())]

    behind = await start_edge(public_url="https://hooks.example.com/")
    plain = await start_edge()
    public = headers(b"https://hooks.example.com/hook/orders?x=1")
    local = headers(b"http://edge.test/hook/orders?x=1")
    assert (await behind.post("/hook/orders?x=1", b"{}", public)).status == 202
    assert (await behind.post("/hook/orders?x=1", b"{}", local)).status == 401
    assert (await plain.post("/hook/orders?x=1", b"{}", local)).status == 202
    for target in (b"/hook/orders", b"/hook/orders?", b"/hook/orders?a?b=%2F&c"):
        signed = headers(b"http://edge.test" + target)
        assert (await plain.post(target.decode(), b"{}", signed)).status == 202


async def test_the_signed_url_of_a_request_to_a_host_of_the_flows_own_has_that_host(start_edge, router):
    auth = {"hmac": {"secret": "key", "header": "X-Signature", "content": "{url}{body}"}}
    router.put_flow("moved", auth=auth, host="own.example", path="/in")
    behind = await start_edge(public_url="https://hooks.example.com")

    async def status(url, path, host):
        signature = hmac.new(b"a secret of sixteen", url + b"{}", hashlib.sha256).hexdigest()
        sender = await behind.connect()
        sender.host = host
        return (await sender.request("POST", path, body=b"{}", headers=[("X-Signature", signature)])).status

    assert await status(b"https://own.example:8443/hook/moved", "/hook/moved", "own.example:8443") == 202
    assert await status(b"https://hooks.example.com/hook/moved", "/hook/moved", "other.example") == 202
    assert await status(b"https://hooks.example.com/hook/moved", "/hook/moved", "own.example") == 401


async def test_a_changed_secret_is_in_force_at_once(edge, sign, hmac_auth):
    edge.router.put_flow("orders", auth=hmac_auth)
    assert (await edge.post("/hook/orders", b"{}", sign(b"{}"))).status == 202
    edge.router.put_secret("key", b"another secret")

    async def refused():
        return (await edge.post("/hook/orders", b"{}", sign(b"{}"))).status == 401

    await seen_within(1, refused)
    assert (await edge.post("/hook/orders", b"{}", sign(b"{}", b"another secret"))).status == 202


async def test_a_revoked_secret_is_out_of_force_within_a_second_and_the_one_beside_it_goes_on(edge, sign):
    edge.router.put_secret("old", b"the old one")
    edge.router.put_flow("orders", auth={"hmac": {"secrets": ["key", "old"], "header": "X-Signature"}})
    old = sign(b"{}", b"the old one")
    assert (await edge.post("/hook/orders", b"{}", old)).status == 202
    edge.router.delete_secret("old")

    async def refused(headers):
        return (await edge.post("/hook/orders", b"{}", headers)).status == 401

    await seen_within(1, lambda: refused(old))
    assert (await edge.post("/hook/orders", b"{}", sign(b"{}"))).status == 202
    assert {event.principal.secret for event in edge.events()} == {"old", "key"}
    edge.router.delete_secret("key")
    await seen_within(1, lambda: refused(sign(b"{}")))


@pytest.mark.parametrize("method", ["POST", "GET", "PUT", "DELETE"])
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\n'),
        ("application/x-www-form-urlencoded", b"a=1&b=%20+"),
        ("text/plain", b""),
    ],
)
async def test_the_raw_bytes_are_signed_whatever_the_method_and_the_type(edge, hmac_auth, method, content_type, body):
    edge.router.put_flow("orders", auth=hmac_auth, methods=["POST", "GET", "PUT", "DELETE"])
    signature = hmac.new(b"a secret of sixteen", body, hashlib.sha256).hexdigest()
    headers = [("Content-Type", content_type), ("X-Signature", signature)]
    assert (await edge.post("/hook/orders", body, headers, method)).status == 202
    assert (await edge.post("/hook/orders", body + b" ", headers, method)).status == 401
    assert [event.body for event in edge.events()] == [body]


@pytest.mark.parametrize("error", [UnavailableError("restarting"), InternalError("crashed")])
async def test_a_call_that_failed_after_storing_is_repeated_and_stores_nothing_twice(edge, error):
    edge.router.put_flow("open")
    edge.router.fail = [error]
    answer = await edge.post("/hook/open")
    assert answer.status == 202
    assert [event.id for event in edge.events()] == [answer.json()["id"]]
    assert len(edge.router.batches) == 2


async def test_a_router_that_restarts_is_not_noticed(edge):
    edge.router.put_flow("open")
    await edge.post("/hook/open")
    await edge.router.stop()
    post = asyncio.create_task(edge.post("/hook/open", b'"meanwhile"'))
    await asyncio.wait({post}, timeout=0.3)
    assert not post.done(), post.done() and post.result().body
    await edge.router.start()
    assert (await post).status == 202
    assert edge.events()[-1].body == b'"meanwhile"'
