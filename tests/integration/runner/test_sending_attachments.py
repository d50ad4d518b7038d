"""`call: http` with attachments of the request that started the execution, as body and as parts of a form."""

from __future__ import annotations

import hashlib

import orjson
import pytest
from aiohttp import web
from support.calls import kind

from flowhook import limits
from flowhook.errors import UnavailableError
from flowhook.model import Blob, Event, Part
from flowhook.wire import convert
from flowhook.wire.event_body import with_batch
from runner.outbound.request_bodies import EventAttachments

FILE = bytes(range(256)) * 5000 + b"end"
NOTE = "naïve".encode()
BODY = b"before" + FILE + b"between" + NOTE + b"after"
PARTS = (
    Part(6, len(FILE), "image/png", 'a "b" ü.png', "picture", hashlib.sha256(FILE).digest()),
    Part(6 + len(FILE) + 7, len(NOTE), "text/plain; charset=utf-8", "n.txt", "note", hashlib.sha256(NOTE).digest()),
    Part(0, 0, "no type at all", "empty", "", hashlib.sha256(b"").digest()),
)
BLOB = Blob("0" * 32, len(BODY), hashlib.sha256(BODY).digest())


def event(event_id="evt_1", **fields):
    return Event(event_id, "f", 1, None, "", "POST", "/", "", "application/x-thing", (), b"")._replace(**fields)


@pytest.fixture
def attachments():
    """Those of an event whose body lies elsewhere; `opened` counts how often one was read."""

    class Counted(EventAttachments):
        opened = 0

    async def slices(event_id, offset, size):
        assert event_id == "evt_1"
        Counted.opened += 1
        for start in range(offset, offset + size, 100_000):
            yield BODY[start : min(start + 100_000, offset + size)]

    return Counted({"evt_1": event(body_blob=BLOB, parts=PARTS)}, raw=False, slices=slices)


@pytest.fixture
async def sink(http_server):
    """A server that says what it was sent; its URL, and the requests it got."""
    got = []

    async def take(request):
        if request.path == "/moved":
            await request.read()
            raise web.HTTPTemporaryRedirect("/")
        if request.path == "/digest" and "Authorization" not in request.headers:
            await request.read()
            return web.Response(status=401, headers={"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'})
        if request.content_type.startswith("multipart/"):
            parts = [
                (part.name, part.filename, part.headers.get("Content-Type"), bytes(await part.read()))
                async for part in await request.multipart()
            ]
            got.append((request.headers.copy(), parts))
        else:
            got.append((request.headers.copy(), await request.read()))
        return web.json_response({"ok": True})

    return await http_server(take, client_max_size=64 * limits.MIB), got


async def test_an_attachment_is_sent_byte_for_byte_with_its_type_and_length(call, sink, attachments):
    base, got = sink
    assert await call(method="put", endpoint=base, attachment="evt_1/0", attachments=attachments) == {"ok": True}
    ((headers, body),) = got
    assert body == FILE
    assert (headers["Content-Type"], headers["Content-Length"]) == ("image/png", str(len(FILE)))
    assert "Transfer-Encoding" not in headers


@pytest.mark.parametrize(
    ("handle", "types"),
    [("evt_1/1", ["x/y", "x/y"]), ("evt_1/1", [None, PARTS[1].type]), ("evt_1/2", [None, "application/octet-stream"])],
)
async def test_its_type_is_what_the_author_says_else_what_the_sender_said_if_that_is_one(
    call, sink, attachments, handle, types
):
    (base, got), (given, expected) = sink, types
    headers = {"content-type": given} if given else {}
    await call(method="put", endpoint=base, headers=headers, attachment=handle, attachments=attachments)
    assert got[0][0]["Content-Type"] == expected


async def test_attachments_and_values_are_sent_as_a_form(call, sink, attachments):
    base, got = sink
    fields = [
        {"name": "title", "value": "größer"},
        {"name": "numbers", "value": [1, 2], "type": "application/json"},
        {"name": "file", "attachment": "evt_1/0"},
        {"name": "note", "attachment": "evt_1/1", "filename": "other.txt", "type": "text/markdown"},
        {"name": "made", "value": "of a text", "filename": "made.txt"},
    ]
    assert await call(method="post", endpoint=base, multipart=fields, attachments=attachments) == {"ok": True}
    ((headers, parts),) = got
    assert parts == [
        ("title", None, None, "größer".encode()),
        ("numbers", None, "application/json", b"[1,2]"),
        ("file", 'a "b" ü.png', "image/png", FILE),
        ("note", "other.txt", "text/markdown", NOTE),
        ("made", "made.txt", None, b"of a text"),
    ]
    assert int(headers["Content-Length"]) > len(FILE)
    assert "Transfer-Encoding" not in headers


@pytest.mark.parametrize("body", [{"attachment": "evt_1/0"}, {"multipart": [{"name": "f", "attachment": "evt_1/0"}]}])
@pytest.mark.parametrize("where", ["moved", "digest"])
async def test_it_is_read_again_for_each_try(call, sink, attachments, where, body):
    base, got = sink
    account = {"digest": {"username": "u", "password": "p"}}
    endpoint = {"uri": f"{base}/{where}", **({"authentication": account} if where == "digest" else {})}
    assert await call(method="post", endpoint=endpoint, redirect=True, **body, attachments=attachments) == {"ok": True}
    ((_, content),) = got
    assert (content if isinstance(content, bytes) else content[0][3]) == FILE
    assert attachments.opened == 2


@pytest.mark.parametrize("handle", ["evt_2/0", "evt_1/3", "evt_1/00", "evt_1/-1", "evt_1", "", "evt_1/0/", "\x00"])
async def test_a_handle_of_another_execution_or_none_is_refused(call, sink, attachments, handle):
    base, got = sink
    error = await call(method="put", endpoint=base, attachment=handle, attachments=attachments)
    assert (kind(error), got) == (("configuration", 400), [])


async def test_where_there_is_no_event_there_are_no_attachments(call, sink):
    assert kind(await call(method="put", endpoint=sink[0], attachment="evt_1/0")) == ("configuration", 400)


@pytest.mark.parametrize(
    "arguments",
    [
        {"attachment": "evt_1/0", "body": "x"},
        {"multipart": []},
        {"multipart": [{"name": "a"}]},
        {"multipart": [{"name": "a", "value": 1, "attachment": "evt_1/0"}]},
        {"multipart": [{"name": "a\r\nX: 1", "value": 1}]},
        {"multipart": [{"name": "a", "value": 1, "type": "a\nb"}]},
        {"multipart": [{"name": "a", "value": 1}], "headers": {"Content-Type": "multipart/form-data"}},
        {"multipart": [{"name": "a", "value": 1}] * 1001},
    ],
)
async def test_what_can_not_be_sent_so_is_a_configuration_error(call, sink, attachments, arguments):
    base, got = sink
    error = await call(method="post", endpoint=base, attachments=attachments, **arguments)
    assert (kind(error), got) == (("configuration", 400), [])


@pytest.mark.parametrize("body", [{"attachment": "evt_1/0"}, {"multipart": [{"name": "f", "attachment": "evt_1/0"}]}])
async def test_an_attachment_that_can_not_be_read_to_its_end_is_a_communication_error(call, sink, body):
    async def broken(_event_id, offset, _size):
        yield BODY[offset : offset + 1000]
        raise ConnectionError

    broken = EventAttachments({"evt_1": event(body_blob=BLOB, parts=PARTS)}, raw=False, slices=broken)
    error = await call(method="put", endpoint=sink[0], **body, attachments=broken)
    assert kind(error) == ("communication", 500)
    assert sink[1] == []


async def test_what_is_in_the_event_itself_is_sent_just_so(call, sink):
    base, got = sink
    inline = EventAttachments({"evt_1": event(body=FILE)}, raw=False)
    await call(method="put", endpoint=base, attachment="evt_1/0", attachments=inline)
    assert (got[0][1], got[0][0]["Content-Type"]) == (FILE, "application/x-thing")


async def test_each_event_of_a_batch_has_its_attachments(call, sink):
    base, got = sink
    batch = EventAttachments({"evt_1": event(body=b"first"), "evt_2": event("evt_2", body=FILE)}, raw=False)
    for handle in ("evt_2/0", "evt_1/0"):
        await call(method="put", endpoint=base, attachment=handle, attachments=batch)
    assert [body for _, body in got] == [FILE, b"first"]


class TestInARunner:
    """The whole of it: what the flow sees of a body that the router keeps, and what becomes of it."""

    @pytest.fixture
    def assignment(self, router):
        def make(flow_id, body=BODY, **fields):
            made = router.assignment(flow_id)
            stored = convert.event_from_bytes(made.event)
            router.bodies[stored.id] = body
            stored = stored._replace(body=b"", content_type="multipart/form-data; boundary=b", body_blob=BLOB, **fields)
            made.event = convert.event_to_bytes(stored)
            return made, stored.id

        return make

    async def run(self, router, assignment):
        stream = await router.attached()
        router.assign(stream, assignment)
        return await router.outcome(assignment.lease)

    async def test_contents_that_belong_into_the_input_are_fetched(self, router, served, assignment):
        router.define("shown", [{"all": {"set": "${ {body, attachments} }"}}])
        made, event_id = assignment("shown", parts=PARTS, form=b'{"a":"1"}')
        data = orjson.loads((await self.run(router, made)).completed.output)
        assert data["body"] == {"a": "1"}
        assert [(each["name"], each["attachment"], each.get("content")) for each in data["attachments"]] == [
            ('a "b" ü.png', f"{event_id}/0", None),
            ("n.txt", f"{event_id}/1", "naïve"),
            ("empty", f"{event_id}/2", ""),
        ]
        assert [(each.offset, each.size) for each in router.reads] == [(PARTS[1].offset, PARTS[1].size)]

    async def test_small_parts_that_lie_together_are_read_at_once(self, router, served, assignment):
        router.define("shown", [{"all": {"set": "${ [.attachments[].content] }"}}])
        parts = tuple(Part(offset, 2, "", "n", "", bytes(32)) for offset in (0, 500, 1100, 5000))
        body = bytes(ord("a") + n % 26 for n in range(6000))
        made, _ = assignment("shown", body, parts=parts)
        data = orjson.loads((await self.run(router, made)).completed.output)
        assert data == [body[part.offset : part.offset + 2].decode() for part in parts]
        assert [(each.offset, each.size) for each in router.reads] == [(0, 1102), (5000, 2)]

    async def test_an_attachment_is_sent_on_and_a_failed_call_is_made_again(self, router, served, assignment, sink):
        base, got = sink
        handle = "${ .attachments[0].attachment }"
        send = {"call": "http", "with": {"method": "put", "endpoint": base, "attachment": handle}}
        router.define("sent", [{"send": {**send, "metadata": {"retry": {"delay": {"milliseconds": 1}}}}}])
        made, event_id = assignment("sent", parts=PARTS[:1])
        router.refusals = [UnavailableError("away")]  # of the first try to read
        assert (await self.run(router, made)).completed.output == b'{"ok":true}'
        assert [content for _, content in got] == [FILE]
        assert [each.execution_id for each in router.reads] == [event_id] * 2

    async def test_a_replay_goes_on_with_the_handles_of_what_it_replays(self, router, served, assignment, sink):
        base, got = sink
        router.define(
            "replayed",
            [
                {"send": {"call": "http", "with": {"method": "put", "endpoint": base, "attachment": "evt_first/0"}}},
                {"show": {"set": "${ $workflow.input.attachments[0].attachment }"}},
            ],
        )
        made, _ = assignment("replayed", parts=PARTS[:1])
        made.effect_scope = "evt_first"
        assert (await self.run(router, made)).completed.output == b'"evt_first/0"'
        assert got[0][1] == FILE

    async def test_each_event_of_a_batch_has_its_contents_and_its_handles(self, router, served, assignment, sink):
        base, got = sink
        send = {"method": "put", "endpoint": base, "attachment": "${ .[1].attachments[0].attachment }"}
        router.define(
            "batched",
            [
                {"send": {"call": "http", "with": send}},
                {"show": {"set": "${ [$workflow.input[].attachments[1].content] }"}},
            ],
            execution={"batch": {"size": 2, "period": "PT1S"}},
        )
        made, _ = assignment("batched", parts=PARTS)
        other, other_id = assignment("batched", parts=PARTS)
        made.event = with_batch(made.event, [other.event])
        assert orjson.loads((await self.run(router, made)).completed.output) == ["naïve", "naïve"]
        assert ([body for _, body in got] or [None])[0] == FILE
        assert router.reads[-1].execution_id == other_id

    async def test_a_body_that_is_gone_faults_the_execution(self, router, served, assignment):
        router.define("shown", [{"all": {"set": "${ . }"}}])
        made, event_id = assignment("shown", parts=PARTS)
        del router.bodies[event_id]
        assert "it is gone" in (await self.run(router, made)).faulted.detail

    async def test_a_flow_that_wants_bodies_raw_has_one_attachment(self, router, served, assignment):
        router.define("raw", [{"all": {"set": "${ {body, attachments} }"}}], webhook={"auth": "none", "parse": "raw"})
        made, event_id = assignment("raw", parts=PARTS, form=b"{}")
        data = orjson.loads((await self.run(router, made)).completed.output)
        assert (data["body"], [each["attachment"] for each in data["attachments"]]) == (None, [f"{event_id}/0"])
        assert (data["attachments"][0]["size"], router.reads) == (len(BODY), [])
