"""Bodies that are too large to be held: streamed to the router, and verified and taken apart meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import hmac

import pytest
from support.patience import PATIENCE

from edge.http import request
from flowhook import limits
from flowhook.errors import ExhaustedError, UnavailableError

SECRET = b"a secret of sixteen"
LARGE = bytes(range(256)) * (limits.STREAMED_BODY_BYTES // 256) + b"and more"
HUGE = limits.MAX_BODY_BYTES + 1
BINARY = ("Content-Type", "application/octet-stream")
FORM = ("Content-Type", "multipart/form-data; boundary=b")


def signature(body, key=SECRET):
    return ("X-Signature", hmac.new(key, body, hashlib.sha256).hexdigest())


def refusal(answer):
    return answer.status, answer.json()["reason"]


def form(*, end=b"--b--\r\n"):
    return b"".join(
        (
            b'--b\r\nContent-Disposition: form-data; name="who[name]"\r\n\r\nAda\r\n',
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="../a.bin"\r\n\r\n' + LARGE + b"\r\n",
            b'--b\r\nContent-Disposition: form-data; name="note"; filename="n.txt"\r\n',
            b"Content-Type: text/plain\r\n\r\nhi\r\n",
            end,
        )
    )


async def chunked(edge, target, headers, pieces, *, end=b"0\r\n\r\n"):
    sender = await edge.connect()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    sender.write(f"POST {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{lines}\r\n".encode())
    for piece in pieces:
        sender.write(b"%x\r\n%b\r\n" % (len(piece), piece))
    sender.write(end)
    return sender


@pytest.fixture
def uploaded(edge):
    """Return the one event there is, and the body it names."""

    def find():
        (event,) = edge.events()
        assert event.body == b""
        return event, edge.router.bodies[event.body_blob.id]

    return find


async def test_a_signed_body_is_streamed_and_named_by_its_event(edge, hmac_auth, uploaded):
    edge.router.put_flow("files", auth=hmac_auth)
    answer = await edge.post("/hook/files", LARGE, [BINARY, signature(LARGE)])
    assert answer.status == 202
    event, body = uploaded()
    assert body == LARGE
    assert (event.body_blob.size, event.body_blob.sha256) == (len(LARGE), hashlib.sha256(LARGE).digest())
    assert (event.principal.scheme, event.principal.secret) == ("hmac", "key")
    assert (list(event.parts), event.form) == ([], b"")
    assert edge.router.uploads[0].size == len(LARGE)


@pytest.mark.parametrize(
    ("flow", "headers", "size", "streamed"),
    [
        ({}, [BINARY], limits.STREAMED_BODY_BYTES, False),
        ({}, [BINARY], limits.STREAMED_BODY_BYTES + 1, True),
        ({}, [("Content-Type", "text/plain")], limits.STREAMED_BODY_BYTES + 1, False),
        ({"parse": "raw"}, [("Content-Type", "text/plain")], limits.STREAMED_BODY_BYTES + 1, True),
        ({}, [BINARY, ("Content-Encoding", "whatever")], limits.STREAMED_BODY_BYTES + 1, False),
        ({"max_body": "17MiB"}, [("Content-Type", "text/plain")], HUGE, True),
        ({"max_body": "17MiB"}, [BINARY, ("Content-Encoding", "gzip")], HUGE, True),
    ],
)
async def test_what_is_not_parsed_is_streamed_above_1_mib_and_everything_above_16_mib(
    edge, flow, headers, size, streamed
):
    edge.router.put_flow("files", **flow)
    assert (await edge.post("/hook/files", b"x" * size, headers)).status == 202
    assert len(edge.router.uploads) == streamed


@pytest.mark.parametrize("kind", [BINARY, ("Content-Type", "application/json")])
async def test_a_chunked_body_that_grows_is_streamed(edge, uploaded, kind):
    edge.router.put_flow("files", max_body="20MiB")
    pieces = [b"x" * 1_000_000] * (18 if "json" in kind[1] else 3)
    sender = await chunked(edge, "/hook/files", [kind], pieces)
    assert (await sender.response()).status == 202
    assert uploaded()[1] == b"".join(pieces)
    assert not edge.router.uploads[0].HasField("size")
    sender.write(b"POST /hook/files HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}")  # the connection is as it was
    assert (await sender.response()).status == 202


async def test_a_chunked_body_that_does_not_grow_is_not_streamed(edge):
    edge.router.put_flow("files")
    sender = await chunked(edge, "/hook/files", [BINARY], [b"x" * 1000] * 3)
    assert (await sender.response()).status == 202
    assert (edge.events()[0].body, edge.router.uploads) == (b"x" * 3000, [])


async def test_the_parts_of_a_form_are_reported_and_its_fields_are_known_at_once(edge, hmac_auth, uploaded):
    respond = {"body": {"hello": "${ .body.who.name }"}}
    edge.router.put_flow("forms", auth=hmac_auth, respond=respond, dedupe={"key": "${ .body.who.name }"})
    content = form()
    answer = await edge.post("/hook/forms", content, [FORM, signature(content)])
    assert answer.json() == {"hello": "Ada"}
    event, body = uploaded()
    assert body == content
    assert event.form == b'{"who":{"name":"Ada"}}'
    assert event.dedupe_key == "hmac:Ada"
    assert [(part.name, part.field, part.type) for part in event.parts] == [
        ("a.bin", "file", ""),
        ("n.txt", "note", "text/plain"),
    ]
    slices = [content[part.offset : part.offset + part.size] for part in event.parts]
    assert slices == [LARGE, b"hi"]
    assert [part.sha256 for part in event.parts] == [hashlib.sha256(each).digest() for each in slices]


@pytest.mark.parametrize("flow", [{"parse": "raw"}, {}], ids=["raw", "compressed"])
async def test_a_form_that_is_wanted_raw_or_is_compressed_stays_as_it_is(edge, uploaded, flow):
    edge.router.put_flow("forms", **flow, max_body="20MiB")
    content = b"not a form at all" * 1_000_000
    coding = [] if flow else [("Content-Encoding", "br")]
    assert (await edge.post("/hook/forms", content, [FORM, *coding])).status == 202
    event, body = uploaded()
    assert body == content
    assert (list(event.parts), event.form) == ([], b"")


@pytest.mark.parametrize("kind", [FORM, ("Content-Type", "multipart/form-data")], ids=["no end", "no boundary"])
@pytest.mark.parametrize("signed", ["well", "badly", "not"])
async def test_a_body_that_is_no_form_is_refused_after_it_was_verified(edge, hmac_auth, kind, signed):
    edge.router.put_flow("forms", auth="none" if signed == "not" else hmac_auth)
    content = form(end=b"")
    proof = {"well": [signature(content)], "badly": [signature(b"another")], "not": []}[signed]
    answer = await edge.post("/hook/forms", content, [kind, *proof])
    assert refusal(answer) == ((401, "UNAUTHENTICATED") if signed == "badly" else (400, "BODY_INVALID"))
    await given_up(edge, all_of=True)


async def given_up(edge, *, all_of=False):
    """Wait until no upload is under way, and see to it that nothing came of any."""
    async with asyncio.timeout(PATIENCE):
        while edge.router.aborted < (len(edge.router.uploads) if all_of else 1):
            await asyncio.sleep(0.01)
    assert (edge.router.bodies, edge.events()) == ({}, [])


async def test_a_body_with_a_wrong_signature_is_refused_at_its_end_and_given_up(edge, hmac_auth, capsys):
    edge.router.put_flow("files", auth=hmac_auth)
    answer = await edge.post("/hook/files", LARGE, [BINARY, signature(LARGE, b"wrong")])
    assert refusal(answer) == (401, "UNAUTHENTICATED")
    assert "SIGNATURE_MISMATCH" in "".join(capsys.readouterr())
    await given_up(edge)


@pytest.mark.parametrize("headers", [[], [("X-Signature", "00")]], ids=["no signature", "none that could be"])
async def test_a_body_that_can_not_be_verified_is_refused_before_it_comes(edge, hmac_auth, headers):
    edge.router.put_flow("files", auth=hmac_auth)
    sender = await edge.connect()
    answer = await sender.request(
        "POST", "/hook/files", headers=[BINARY, *headers, ("Content-Length", "5000000"), ("Expect", "100-continue")]
    )
    assert refusal(answer) == (401, "UNAUTHENTICATED")
    assert edge.router.uploads == []


async def test_any_of_several_kinds_that_passes_will_do(edge, hmac_auth, uploaded):
    other = {"hmac": {"secrets": ["old", "key"], "header": "X-Other", "content": "{method}{body}{path}"}}
    edge.router.put_secret("old", b"of old")
    edge.router.put_flow("files", auth=[hmac_auth, other])
    headers = [BINARY, signature(LARGE, b"wrong")]
    good = hmac.new(SECRET, b"POST" + LARGE + b"/hook/files", hashlib.sha256).hexdigest()
    assert (await edge.post("/hook/files", LARGE, [*headers, ("X-Other", good)])).status == 202
    assert uploaded()[0].principal.scheme == "hmac"


async def test_credentials_in_headers_will_do_for_any_size(edge, uploaded):
    edge.router.put_flow("files", auth={"api_key": {"header": "X-Key", "secret": "key"}}, max_body="17MiB")
    body = b"x" * HUGE
    assert (await edge.post("/hook/files", body, [BINARY, ("X-Key", SECRET.decode())])).status == 202
    assert uploaded()[1] == body


async def test_what_signs_a_body_as_a_whole_takes_none_above_16_mib(edge, hmac_auth, uploaded):
    discord = {"discord": {"public_key": "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"}}
    signed = [BINARY, ("X-Signature-Ed25519", "00" * 64), ("X-Signature-Timestamp", "1")]
    edge.router.put_flow("discord", auth=discord, max_body="1GiB")
    edge.router.put_flow("both", auth=[discord, hmac_auth], max_body="1GiB")
    sender = await edge.connect()
    answer = await sender.request("POST", "/hook/discord", headers=[*signed, ("Content-Length", str(HUGE))])
    assert refusal(answer) == (413, "BODY_TOO_LARGE")
    assert refusal(await edge.post("/hook/discord", LARGE, signed)) == (401, "UNAUTHENTICATED")
    assert edge.router.uploads == []
    body = b"x" * HUGE
    assert (await edge.post("/hook/both", body, [*signed, signature(body)])).status == 202
    assert uploaded()[0].principal.scheme == "hmac"


async def test_a_chunked_body_that_grows_too_large_is_refused_and_given_up(edge):
    edge.router.put_flow("files", max_body="2MiB")
    sender = await chunked(edge, "/hook/files", [BINARY], [b"x" * 1_000_000] * 3)
    assert refusal(await sender.response()) == (413, "BODY_TOO_LARGE")
    await given_up(edge)


@pytest.mark.parametrize("length", [len(LARGE), None])
async def test_a_body_that_ends_in_the_middle_is_given_up(edge, length):
    edge.router.put_flow("files")
    if length is None:
        sender = await chunked(edge, "/hook/files", [BINARY], [LARGE], end=b"5\r\nab")
    else:
        sender = await edge.connect()
        sender.write(b"POST /hook/files HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % length + LARGE[:-1])
    await edge.router.arrived.wait()
    sender.close()
    await given_up(edge)


async def test_a_malformed_chunk_is_refused_and_the_body_given_up(edge):
    edge.router.put_flow("files")
    sender = await chunked(edge, "/hook/files", [BINARY], [LARGE], end=b"nonsense\r\n")
    assert refusal(await sender.response()) == (400, "FRAMING_INVALID")
    await given_up(edge, all_of=True)


async def test_a_sender_that_stands_still_is_cut_off_and_one_that_keeps_a_minimum_rate_is_not(
    start_edge, monkeypatch, uploaded
):
    monkeypatch.setattr(request, "MIN_BYTES_PER_SECOND", 1_000_000.0)
    edge = await start_edge(body_timeout=1.0)
    edge.router.put_flow("files")
    head = b"POST /hook/files HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(LARGE)
    still = await edge.connect()
    still.write(head + LARGE[:-1])
    assert refusal(await still.response()) == (408, "REQUEST_TIMEOUT")
    await given_up(edge)
    slow = await edge.connect()
    slow.write(head)
    step = len(LARGE) // 5
    for start in range(0, len(LARGE), step):
        slow.write(LARGE[start : start + step])
        await asyncio.sleep(0.25)  # 1.25 s in all, which is more than `body_timeout`
    assert (await slow.response()).status == 202


async def test_a_sender_is_as_fast_as_the_router_takes_the_body_and_not_cut_off_for_it(start_edge):
    edge = await start_edge(body_timeout=1.0)
    edge.router.put_flow("files", max_body="64MiB")
    edge.router.matches.clear()
    body = bytes(64 * limits.MIB)
    post = asyncio.create_task(edge.post("/hook/files", body, [BINARY]))
    await edge.router.arrived.wait()
    await asyncio.sleep(1.5)
    assert not post.done()
    (sender,) = edge.senders
    assert sender.writer.transport.get_write_buffer_size() > 32 * limits.MIB  # what the edge does not read
    edge.router.matches.set()
    assert (await post).status == 202


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ExhaustedError("full", reason="FLOW_UPLOADS_FULL", retry_after=5), (429, "FLOW_UPLOADS_FULL")),
        (ExhaustedError("full", reason="SENDER_UPLOADS_FULL", retry_after=5), (429, "SENDER_UPLOADS_FULL")),
        (UnavailableError("full", reason="UPLOADS_FULL", retry_after=5), (503, "UPLOADS_FULL")),
        (UnavailableError("full", reason="STORAGE_FULL"), (503, "STORAGE_FULL")),
        (UnavailableError("defect", reason="WHATEVER"), (503, "ROUTER_UNAVAILABLE")),
    ],
)
async def test_what_the_router_does_not_take_is_refused_before_it_is_sent(edge, error, expected):
    edge.router.put_flow("files")
    edge.router.full = error
    sender = await edge.connect()
    answer = await sender.request(
        "POST", "/hook/files", headers=[BINARY, ("Content-Length", "5000000"), ("Expect", "100-continue")]
    )
    assert refusal(answer) == expected
    assert "retry-after" in answer.headers


async def test_an_upload_that_gives_way_is_answered_though_its_sender_sends_nothing(edge):
    edge.router.put_flow("files")
    sender = await edge.connect()
    sender.write(b"POST /hook/files HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\nthe beginning")
    await edge.router.arrived.wait()
    async with asyncio.timeout(PATIENCE):
        while edge.router.uploading is None:
            await asyncio.sleep(0)
    edge.router.uploading.reschedule(0)
    answer = await sender.response()
    assert refusal(answer) == (503, "UPLOADS_FULL")
    assert answer.headers["retry-after"] == "5"
    assert await sender.at_eof() == b""


async def test_the_router_learns_who_has_proved_what(edge, hmac_auth, sign):
    key = {"api_key": {"header": "X-Key", "secret": "key"}}
    edge.router.put_flow("open")
    edge.router.put_flow("signed", auth=hmac_auth)
    edge.router.put_flow("both", auth=[key, hmac_auth])
    signature = sign(LARGE)[1]
    for flow, header in (
        ("open", BINARY),
        ("signed", signature),
        ("both", signature),
        ("both", ("X-Key", SECRET.decode())),
    ):
        assert (await edge.post(f"/hook/{flow}", LARGE, dict([BINARY, header]).items())).status == 202
    assert [upload.proven for upload in edge.router.uploads] == [False, False, False, True]
    assert {upload.sender for upload in edge.router.uploads} == {"127.0.0.1"}


async def test_a_sender_that_waits_for_100_continue_gets_it_once_the_router_takes_the_body(edge, uploaded):
    edge.router.put_flow("files")
    sender = await edge.connect()
    sender.write(
        b"POST /hook/files HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(LARGE)
    )
    assert await asyncio.wait_for(sender.reader.readuntil(b"\r\n\r\n"), PATIENCE) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert len(edge.router.uploads) == 1
    sender.write(LARGE)
    assert (await sender.response()).status == 202
    assert uploaded()[1] == LARGE


async def test_a_router_that_goes_away_in_the_middle_is_answered_503(edge):
    edge.router.put_flow("files")
    edge.router.matches.clear()
    sender = await edge.connect()
    sender.write(
        b"POST /hook/files HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n".replace(b"100000000", b"9000000")
    )
    sender.write(LARGE)
    await edge.router.arrived.wait()
    await edge.router.stop()
    sender.write(LARGE)
    assert refusal(await sender.response()) == (503, "ROUTER_UNAVAILABLE")


async def test_a_flow_that_answers_itself_does_so_for_streamed_bodies(edge, uploaded):
    edge.router.put_flow("files", respond={"mode": "reply"})
    post = asyncio.create_task(edge.post("/hook/files", LARGE, [BINARY]))
    async with asyncio.timeout(PATIENCE):
        while not edge.router.invoked:
            await asyncio.sleep(0.01)
    edge.router.answer(edge.router.invoked[0], reply={"status": 201, "body": b"seen"})
    answer = await post
    assert (answer.status, answer.body) == (201, b"seen")
    assert uploaded()[1] == LARGE


async def test_what_is_streamed_is_counted(start_edge):
    from prometheus_client import CollectorRegistry  # noqa: PLC0415 - for this one

    registry = CollectorRegistry()
    edge = await start_edge(registry=registry)
    edge.router.put_flow("files")
    await edge.post("/hook/files", LARGE, [BINARY])
    assert registry.get_sample_value("flowhook_edge_streamed_bytes_total") == len(LARGE)
    assert registry.get_sample_value("flowhook_edge_uploads") == 0
