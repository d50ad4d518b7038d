"""Bodies that come apart from their events: uploading them, naming them, reading them, and what becomes of them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from pathlib import Path

import grpc.aio
import pytest
from support.cpu import cpu_seconds
from support.patience import PATIENCE
from support.routers import flow, running_router
from support.runners import attached

from flowhook import limits
from flowhook.client import channel
from flowhook.errors import ExhaustedError, InvalidError, NotFoundError, UnavailableError
from flowhook.events import ids
from flowhook.process.settings import RouterSettings
from flowhook.v1 import (
    envelope_pb2,
    execution_service_pb2,
    execution_service_pb2_grpc,
    ingest_service_pb2_grpc,
    runner_service_pb2,
    runner_service_pb2_grpc,
)
from flowhook.v1 import ingest_service_pb2 as pb
from flowhook.wire import status
from router.flows.intake import fill_defaults, validate_and_serialize
from router.process.retention import RetentionKeeper

BODY = bytes(range(256)) * 4096 + b"end"
CHUNK = 100_000


class Uploader:
    """An edge as far as bodies go."""

    def __init__(self, router):
        self.router = router
        self._channels = {
            role: channel.connect(router.target, router.token(role)) for role in ("edge", "runner", "admin")
        }
        self.ingest = ingest_service_pb2_grpc.IngestServiceStub(self._channels["edge"])
        self.runner = runner_service_pb2_grpc.RunnerServiceStub(self._channels["runner"])
        self.executions = execution_service_pb2_grpc.ExecutionServiceStub(self._channels["admin"])

    async def close(self):
        for each in self._channels.values():
            await each.close(None)

    def blobs(self):
        return sorted(Path(self.router.settings.data_dir, "blobs").glob("*/*.body"))

    async def begin(self, flow_id="hello", **start):
        call = self.ingest.UploadBody()
        await call.write(pb.UploadBodyRequest(start=pb.UploadStart(flow_id=flow_id, **start)))
        if not dict(await call.initial_metadata()).get("admitted"):
            await call
        return call

    async def upload(self, body=BODY, flow_id="hello", *, end=True, size=None):
        """Upload a body; raises what the router says.

        Without `end` the stream stays open: gRPC makes an error of its own of what is written while the router says no.
        """
        size = len(body) if size is None else size
        try:
            call = await self.begin(flow_id, **({"size": size} if size else {}))
            for start in range(0, len(body), CHUNK):
                await call.write(pb.UploadBodyRequest(chunk=body[start : start + CHUNK]))
            if end:
                await call.write(pb.UploadBodyRequest(end=pb.UploadEnd()))
                await call.done_writing()
            return (await call).blob
        except grpc.aio.AioRpcError as error:
            raise status.from_rpc_error(error) from None

    async def send(self, blob, flow_id="hello", **fields):
        """Hand in an event that names a body; returns its fate."""
        event = envelope_pb2.Event(
            **{"id": ids.mint(ids.slot_of(flow_id)), "flow_id": flow_id, "body_blob": blob, "method": "POST"} | fields
        )
        response = await self.ingest.IngestEvents(pb.IngestEventsRequest(events=[event]))
        return response.results[0]

    async def slice(self, execution_id, offset, size):
        request = runner_service_pb2.ReadAttachmentRequest(execution_id=execution_id, offset=offset, size=size)
        try:
            return [message.chunk async for message in self.runner.ReadAttachment(request)]
        except grpc.aio.AioRpcError as error:
            raise status.from_rpc_error(error) from None

    async def whole(self, execution_id):
        request = execution_service_pb2.ReadBodyRequest(execution_id=execution_id)
        return b"".join([message.chunk async for message in self.executions.ReadBody(request)])

    async def until_there_are(self, count):
        """Wait until so many bodies are on disk: what is given up is removed beside the call that did so."""
        async with asyncio.timeout(PATIENCE):
            while len(self.blobs()) != count:
                await asyncio.sleep(0.01)


@pytest.fixture
async def edge(router, client):
    await client.flows.apply([flow("hello"), flow("other")])
    edge = Uploader(router)
    yield edge
    await edge.close()


async def test_a_body_is_stored_as_it_arrived_and_read_back_whole_and_in_slices(edge, client):
    blob = await edge.upload()
    assert (blob.size, blob.sha256) == (len(BODY), hashlib.sha256(BODY).digest())
    execution_id = (await edge.send(blob)).accepted.execution_id
    assert await edge.whole(execution_id) == BODY
    chunks = await edge.slice(execution_id, 10, len(BODY) - 20)
    assert b"".join(chunks) == BODY[10:-10]
    assert max(map(len, chunks)) <= limits.CHUNK_BYTES
    detail = await client.executions.get(execution_id)
    assert (detail.event.body, detail.event.body_blob.sha256) == (b"", blob.sha256)


async def test_a_body_whose_size_is_not_known_is_stored(edge):
    assert (await edge.upload(b"abc", size=0)).size == 3


async def test_what_travels_in_its_event_is_read_as_a_body_too(edge, client):
    execution_id = await client.ingest("hello", BODY, "image/png")
    assert await edge.whole(execution_id) == BODY
    with pytest.raises(NotFoundError) as raised:
        await edge.slice(execution_id, 0, 1)
    assert raised.value.reason == "BODY_NOT_FOUND"


@pytest.mark.parametrize("size", [3, 100_000, 2 * limits.MIB], ids=["small", "in the database", "in a file"])
async def test_an_event_is_returned_with_no_more_of_its_body_than_requested(edge, client, size):
    body = (BODY * 2)[:size]
    execution_id = await client.ingest("hello", body, "image/png")
    whole = await client.executions.get(execution_id)
    assert (whole.event.body, whole.body_size, whole.cut_body_size) == (body, size, None)
    for most in (0, 2, size - 1):
        cut = await client.executions.get(execution_id, max_body_bytes=most)
        assert cut.event == whole.event._replace(body=body[:most])
        assert (cut.body_size, cut.cut_body_size) == (size, size)
    assert await client.executions.get(execution_id, max_body_bytes=size) == whole
    assert await edge.whole(execution_id) == body


async def test_a_body_that_is_stored_separately_has_its_size_however_much_is_requested(edge, client):
    execution_id = (await edge.send(await edge.upload())).accepted.execution_id
    for most in (None, 0, len(BODY)):
        detail = await client.executions.get(execution_id, max_body_bytes=most)
        assert (detail.event.body, detail.body_size, detail.cut_body_size) == (b"", len(BODY), None)


async def test_a_negative_limit_of_a_body_is_refused(edge, client):
    execution_id = await client.ingest("hello", b"abc", "image/png")
    with pytest.raises(InvalidError) as raised:
        await client.executions.get(execution_id, max_body_bytes=-1)
    assert raised.value.reason == "BODY_LIMIT_INVALID"


async def test_a_slice_beyond_the_end_is_refused(edge):
    execution_id = (await edge.send(await edge.upload(b"abc"))).accepted.execution_id
    for offset, size in ((0, 4), (3, 1), (-1, 1)):
        with pytest.raises(InvalidError) as raised:
            await edge.slice(execution_id, offset, size)
        assert raised.value.reason == "SLICE_INVALID"


@pytest.mark.parametrize(
    "how", [{"size": 5}, {"size": 2, "end": False}, {"size": limits.GIB + 1}, {"body": b"", "size": 1}, {"body": b""}]
)
async def test_a_body_that_is_not_what_was_said_leaves_nothing(edge, how):
    with pytest.raises(InvalidError) as raised:
        await edge.upload(**{"body": b"abc"} | how)
    assert raised.value.reason == "UPLOAD_INVALID"
    await edge.until_there_are(0)


async def test_an_upload_that_is_given_up_leaves_nothing(edge):
    call = await edge.begin(size=len(BODY))
    await call.write(pb.UploadBodyRequest(chunk=BODY[:CHUNK]))
    await edge.until_there_are(1)
    call.cancel()
    await edge.until_there_are(0)


@pytest.mark.parametrize("start", [{}, {"size": 3}])
async def test_a_stream_that_ends_without_saying_that_the_body_does_leaves_nothing(edge, start):
    call = await edge.begin(**start)
    await call.write(pb.UploadBodyRequest(chunk=b"abc"))
    await call.done_writing()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    assert status.from_rpc_error(raised.value).reason == "UPLOAD_INVALID"
    await edge.until_there_are(0)


async def test_a_body_for_a_flow_that_is_not_there_is_refused(edge):
    with pytest.raises(NotFoundError) as raised:
        await edge.upload(flow_id="nobody")
    assert raised.value.reason == "FLOW_NOT_FOUND"


@pytest.mark.parametrize("of", ["another flow", "nobody"])
async def test_an_event_that_names_no_body_of_its_flow_is_refused(edge, of):
    blob = (
        await edge.upload(flow_id="other")
        if of == "another flow"
        else envelope_pb2.Blob(id="0" * 32, size=1, sha256=bytes(32))
    )
    assert (await edge.send(blob)).rejected.reason == "BODY_LOST"


@pytest.mark.parametrize(
    "fields",
    [
        {"body": b"x"},
        {"parts": [envelope_pb2.Part(offset=1, size=3, sha256=bytes(32))]},
        {"parts": [envelope_pb2.Part(size=1)]},
        {"parts": [envelope_pb2.Part(sha256=bytes(32))] * (limits.MAX_PARTS + 1)},
        {"form": b"[]"},
        {"form": b"{"},
    ],
)
async def test_an_event_that_says_of_its_body_what_can_not_be_is_refused_and_the_body_removed(edge, fields):
    blob = await edge.upload(b"abc")
    assert (await edge.send(blob, **fields)).rejected.reason == "BODY_BLOB_INVALID"
    await edge.until_there_are(0)


def test_what_a_form_says_is_not_read_on_the_routers_loop():
    """It may have a MiB, which takes tens of milliseconds to parse."""
    blob = envelope_pb2.Blob(id="0" * 32, size=1, sha256=bytes(32))
    message = envelope_pb2.Event(flow_id="keep", body_blob=blob, form=b'{"a":[' + b"[]," * 340_000 + b"[]]}")
    fill_defaults(message, 1)
    assert cpu_seconds(lambda: validate_and_serialize(message, ids.slot_of(message.flow_id)), 0.005) < 0.005


async def test_a_callback_has_its_body_with_it(edge, client):
    callbacks = b"webhook: {auth: none, callbacks: {approval: {auth: none}}}\n"
    await client.flows.apply([flow("waits", callbacks)])
    blob = await edge.upload(b"abc", "waits")
    assert (await edge.send(blob, "waits", callback="approval")).rejected.reason == "BODY_BLOB_INVALID"


async def test_the_body_of_a_repeated_delivery_is_removed(edge):
    first = await edge.send(await edge.upload(), dedupe_key="k")
    again = await edge.send(await edge.upload(), dedupe_key="k")
    assert again.accepted == pb.Accepted(execution_id=first.accepted.execution_id, duplicate=True)
    await edge.until_there_are(1)


async def test_the_body_of_an_event_that_is_refused_is_removed(edge, client):
    await client.flows.apply([flow("hello", b"execution: {max_backlog: 1}\n")])
    blob = await edge.upload()
    await client.ingest("hello", {})
    assert (await edge.send(blob)).rejected.reason == "BACKLOG_FULL"
    await edge.until_there_are(0)
    with pytest.raises(ExhaustedError):  # and no other one is begun
        await edge.upload()


async def test_uploads_are_bounded_for_a_flow_and_for_the_router(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_FLOW_UPLOADS", 1)
    async with (
        running_router(tmp_path / "data", max_uploads=2, max_upload_bytes=1000) as router,
        router.client() as client,
    ):
        await client.flows.apply([flow(name) for name in ("hello", "other", "third")])
        edge = Uploader(router)
        held = [await edge.begin(name, size=200) for name in ("hello", "other")]
        with pytest.raises(ExhaustedError) as raised:
            await edge.upload(b"abc")
        assert raised.value.reason == "FLOW_UPLOADS_FULL"
        with pytest.raises(UnavailableError) as raised:
            await edge.upload(b"abc", "third")
        assert raised.value.reason == "UPLOADS_FULL"
        held[0].cancel()
        await edge.until_there_are(1)
        await edge.upload(b"x" * 300, "third")
        await edge.upload(b"x" * 300, "third")
        with pytest.raises(UnavailableError) as raised:
            await edge.upload(b"x" * 301, "third")  # half is for senders that are known before
        assert raised.value.reason == "UPLOADS_FULL"
        await edge.upload(b"x" * 200, "third")
        with pytest.raises(UnavailableError) as raised:
            await edge.upload(b"x", "third")
        assert raised.value.reason == "UPLOADS_FULL"
        held[1].cancel()
        await edge.close()


class TestGivingWay:
    @pytest.fixture
    async def small(self, tmp_path, monkeypatch):
        """A router with two places of each kind, and a flow."""
        monkeypatch.setattr("router.bodies.body_streams.GRACE_SECONDS", 0.0)
        async with running_router(tmp_path / "data", max_uploads=2) as router, router.client() as client:
            await client.flows.apply([flow("hello")])
            edge = Uploader(router)
            yield edge
            await edge.close()

    async def test_unproven_senders_take_no_place_of_a_proven_one(self, small):
        held = [await small.begin(sender=f"{number}") for number in range(2)]
        proven = [await small.begin(proven=True) for _ in range(2)]
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await small.begin(proven=True)
        assert status.from_rpc_error(raised.value).reason == "UPLOADS_FULL"
        for call in (*held, *proven):
            assert not call.done()
            call.cancel()

    async def test_the_slowest_gives_way_and_nothing_is_left_of_it(self, small):
        slow, fast = await small.begin(sender="1"), await small.begin(sender="2")
        await slow.write(pb.UploadBodyRequest(chunk=b"x"))
        await fast.write(pb.UploadBodyRequest(chunk=b"x" * CHUNK))
        async with asyncio.timeout(PATIENCE):
            while sum(file.stat().st_size for file in small.blobs()) <= CHUNK:
                await asyncio.sleep(0.01)
        blob = await small.upload()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await slow
        assert status.from_rpc_error(raised.value).reason == "UPLOADS_FULL"
        await fast.write(pb.UploadBodyRequest(end=pb.UploadEnd()))
        await fast.done_writing()
        assert (await fast).blob.size == CHUNK
        await small.until_there_are(2)
        assert blob.size == len(BODY)

    async def test_an_address_has_few_places(self, small, monkeypatch):
        monkeypatch.setattr(limits, "MAX_SENDER_UPLOADS", 1)
        held = await small.begin(sender="192.0.2.1")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await small.begin(sender="192.0.2.1")
        assert status.from_rpc_error(raised.value).reason == "SENDER_UPLOADS_FULL"
        other = await small.begin(sender="192.0.2.2")
        for call in (held, other):
            call.cancel()

    async def test_a_sender_is_named_in_few_characters(self, small):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await small.begin(sender="x" * 65)
        assert status.from_rpc_error(raised.value).reason == "UPLOAD_INVALID"


async def test_bodies_of_unknown_sizes_are_bounded_too(tmp_path):
    async with running_router(tmp_path / "data", max_upload_bytes=100_000) as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        edge = Uploader(router)
        for start in ({}, {"proven": True}):
            call = await edge.begin(**start)
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # when it ends meanwhile
                for _ in range(20):
                    await call.write(pb.UploadBodyRequest(chunk=b"x" * 10_000))
            # INTERNAL: of what is written while the router ends the call gRPC makes an error of its own
            assert await call.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL}
            await edge.until_there_are(0)
        await edge.close()


async def test_a_replay_has_the_body_of_what_it_replays(edge, client, router):
    blob = await edge.upload()
    execution_id = (await edge.send(blob)).accepted.execution_id
    async with attached(router) as runner:
        await runner.credit(2)
        await runner.complete((await runner.assignments(1))[0])
        replay = await client.executions.replay(execution_id)
        [assignment] = await runner.assignments(1)
        assert envelope_pb2.Event.FromString(assignment.event).body_blob == blob
        await runner.complete(assignment)
    assert await edge.whole(replay.id) == BODY
    assert b"".join(await edge.slice(replay.id, 0, 5)) == BODY[:5]


async def test_a_body_goes_with_the_retention_of_its_execution(tmp_path):
    async with running_router(tmp_path / "data", retention_seconds=0.001) as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        edge = Uploader(router)
        await edge.send(await edge.upload())
        async with attached(router) as runner:
            await runner.credit(1)
            await runner.complete((await runner.assignments(1))[0])
        assert len(edge.blobs()) == 1
        await edge.close()
    # what is past is removed when a router begins, which it does in milliseconds, and then once a minute
    async with running_router(tmp_path / "data", retention_seconds=0.001) as router:
        edge = Uploader(router)
        await edge.until_there_are(0)
        await edge.close()


async def test_what_no_event_named_in_an_hour_is_swept():
    swept = asyncio.Event()

    class Sweepable:
        def sweep(self, *, seconds):
            assert seconds == 3600
            swept.set()

        def follow_removals(self, _):
            pass

        async def counter(self, _):
            return 0

        async def expire(self, **_):
            return 0

        async def forget_revisions(self, **_):
            return 0

    parts = dict.fromkeys(("state", "bodies", "registry"), Sweepable())
    retention = RetentionKeeper(settings=RouterSettings(), now_ms=lambda: 0, **parts)
    sweeping = asyncio.create_task(retention.run())
    async with asyncio.timeout(PATIENCE):
        await swept.wait()
    sweeping.cancel()
