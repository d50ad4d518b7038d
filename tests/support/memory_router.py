"""A router in memory, as edges see it: a real gRPC server with the services they call."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib

import grpc.aio
import orjson
from support.edge_heads import with_head
from support.ports import free_port

from flowhook.client.channel import SERVER_OPTIONS
from flowhook.errors import FlowhookError, NotFoundError, UnavailableError
from flowhook.v1 import (
    cluster_service_pb2,
    cluster_service_pb2_grpc,
    envelope_pb2,
    flow_service_pb2,
    flow_service_pb2_grpc,
    ingest_service_pb2,
    ingest_service_pb2_grpc,
    rejection_service_pb2,
    rejection_service_pb2_grpc,
    secret_service_pb2,
    secret_service_pb2_grpc,
)
from flowhook.wire import convert, status


class MemoryRouter(
    ingest_service_pb2_grpc.IngestServiceServicer,
    flow_service_pb2_grpc.FlowServiceServicer,
    secret_service_pb2_grpc.SecretServiceServicer,
    rejection_service_pb2_grpc.RejectionServiceServicer,
    cluster_service_pb2_grpc.ClusterServiceServicer,
):
    """What an edge sees of a router.

    Attributes:
        stored: events by ID, as they would be durable.
        lookups: IDs of flows that were asked for.
        searches: IDs of which it was asked together whether there are such flows.
        batches: how many events came per call.
        reject: failure per flow ID.
        fail: errors that the next calls of IngestEvents end with, after storing.
        gate: while it is not set, IngestEvents does not answer.
        calls_back: while it is not set, it does not answer to calls with a callback.
        silent: while set, the watch says nothing.
        invoked: executions that somebody waits for, or waited, once per call.
        left: how many of those calls were given up by the edge.
        refuse: errors that the next calls of InvokeFlow end with, nothing stored.
        bodies: those that were uploaded, by ID.
        uploads: how many uploads there are, and were.
        given_up: how many of them ended before the body did.
        full: error that the next upload is refused with.
        takes: while it is not set, no piece of a body is taken.
        uploading: timeout of the upload that began last; when it is over the upload gives way.
    """

    def __init__(self):
        self.flows = {}
        self.secrets = {}
        self.rejections = []
        self.revision = 1
        self.stored = {}
        self.dedupe = {}
        self.lookups = []
        self.searches = []
        self.batches = []
        self.reject = {}
        self.fail = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls_back = asyncio.Event()
        self.calls_back.set()
        self.arrived = asyncio.Event()
        self.silent = False
        self.history = []
        self.invoked = []
        self.has_retries_left = 0
        self.refuse = []
        self.bodies = {}
        self.uploads = []
        self.aborted = 0
        self.full = None
        self.matches = asyncio.Event()
        self.matches.set()
        self.uploading = None
        self._answers = {}
        self._answered = {}
        self._changed = asyncio.Event()
        self._server = None
        self.port = 0

    def register(self, server):
        """Let a server offer its services."""
        ingest_service_pb2_grpc.add_IngestServiceServicer_to_server(self, server)
        flow_service_pb2_grpc.add_FlowServiceServicer_to_server(self, server)
        secret_service_pb2_grpc.add_SecretServiceServicer_to_server(self, server)
        rejection_service_pb2_grpc.add_RejectionServiceServicer_to_server(self, server)
        cluster_service_pb2_grpc.add_ClusterServiceServicer_to_server(self, server)

    async def start(self):
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        self.register(self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port or free_port()}")
        await self._server.start()

    async def stop(self):
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    def put_flow(self, flow_id, *, order_by=None, search=None, **webhook):
        keys = {"order_by": order_by, "search": search}
        execution = {name: value for name, value in keys.items() if value is not None}
        self.flows[flow_id] = orjson.dumps({"webhook": {"auth": "none", **webhook}, "execution": execution})
        self._tell(flow_id=flow_id)

    def delete_flow(self, flow_id):
        del self.flows[flow_id]
        self._tell(flow_id=flow_id)

    def put_secret(self, name, value):
        self.secrets[name] = value
        self._tell(secret_name=name)

    def delete_secret(self, name):
        del self.secrets[name]
        self._tell(secret_name=name)

    def _tell(self, **change):
        self.revision += 1
        self.history.append((self.revision, change))
        self._changed.set()
        self._changed = asyncio.Event()

    async def IngestEvents(self, request, context):  # noqa: N802 - the name of the RPC
        self.batches.append(len(request.events))
        self.arrived.set()
        await self.gate.wait()
        if any(event.callback for event in request.events):
            await self.calls_back.wait()
        results = []
        for event in request.events:
            if event.flow_id in self.reject:
                results.append(ingest_service_pb2.IngestResult(rejected=self.reject[event.flow_id]))
                continue
            key = (event.flow_id, event.callback, event.dedupe_key)
            original = self.dedupe.setdefault(key, event.id) if event.dedupe_key else event.id
            duplicate = original != event.id or event.id in self.stored
            if not duplicate:
                self.stored[event.id] = with_head(event)
            results.append(
                ingest_service_pb2.IngestResult(
                    accepted=ingest_service_pb2.Accepted(execution_id=original, duplicate=duplicate)
                )
            )
        if self.fail:
            error = self.fail.pop(0)
            await (status.abort(context, error) if isinstance(error, FlowhookError) else context.abort(error))
        return ingest_service_pb2.IngestEventsResponse(results=results)

    async def StreamEvents(self, requests, context):  # noqa: N802 - the name of the RPC
        answers = asyncio.Queue()

        async def answer_in_order():
            while True:
                answer = await (await answers.get())
                await context.write(ingest_service_pb2.StreamEventsResponse(results=answer.results))

        async with asyncio.TaskGroup() as tasks:
            answering = tasks.create_task(answer_in_order())
            async for request in requests:
                answers.put_nowait(tasks.create_task(self.IngestEvents(request, context)))
            answering.cancel()

    async def UploadBody(self, requests, context):  # noqa: N802 - the name of the RPC
        start = (await anext(aiter(requests))).start
        self.uploads.append(start)
        self.arrived.set()
        if self.full is not None:
            error, self.full = self.full, None
            await status.abort(context, error)
        await context.send_initial_metadata((("admitted", "1"),))
        body, ended = bytearray(), False
        try:
            async with asyncio.timeout(None) as self.uploading:
                async for request in requests:
                    await self.matches.wait()
                    ended = request.HasField("end")
                    body += request.chunk
        except TimeoutError:
            await status.abort(context, UnavailableError("full", reason="UPLOADS_FULL", retry_after=5))
        finally:
            self.aborted += not ended
        if not ended:  # a stream that breaks may look like one that ends
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "too short")
        body_id = f"{len(self.uploads):032x}"
        self.bodies[body_id] = bytes(body)
        blob = envelope_pb2.Blob(id=body_id, size=len(body), sha256=hashlib.sha256(body).digest())
        return ingest_service_pb2.UploadBodyResponse(blob=blob)

    def answer(self, execution_id, **outcome):
        """Let an execution answer."""
        self._answers[execution_id] = outcome
        self._answered.setdefault(execution_id, asyncio.Event()).set()

    def outcome(self, execution_id):
        pending = ingest_service_pb2.Pending(reply_token=f"{execution_id}.mac")
        return self._answers.get(execution_id, {"pending": pending})

    async def InvokeFlow(self, request, context):  # noqa: N802 - the name of the RPC
        event = request.event
        if self.refuse:
            await status.abort(context, self.refuse.pop(0))
        original = self.dedupe.setdefault((event.flow_id, event.dedupe_key), event.id) if event.dedupe_key else event.id
        if original == event.id:
            self.stored[event.id] = with_head(event)
        self.invoked.append(original)
        self.arrived.set()
        try:
            with contextlib.suppress(TimeoutError):
                answered = self._answered.setdefault(original, asyncio.Event())
                await asyncio.wait_for(answered.wait(), convert.seconds(request.max_wait))
        except asyncio.CancelledError:
            self.has_retries_left += 1
            raise
        return ingest_service_pb2.InvokeFlowResponse(execution_id=original, **self.outcome(original))

    async def GetReply(self, request, context):  # noqa: N802 - the name of the RPC
        execution_id, _, mac = request.reply_token.partition(".")
        if mac != "mac" or execution_id not in self.stored:
            await status.abort(context, NotFoundError("no such reply", reason="REPLY_NOT_FOUND"))
        return ingest_service_pb2.GetReplyResponse(
            execution_id=execution_id, flow_id=self.stored[execution_id].flow_id, **self.outcome(execution_id)
        )

    async def FindFlows(self, request, context):  # noqa: N802 - the name of the RPC
        self.searches.append([*request.flow_ids, *(f"{url.host}{url.path}" for url in request.urls)])
        owners = {}
        for flow_id, definition in self.flows.items():
            webhook = orjson.loads(definition)["webhook"]
            if "path" in webhook:
                owners[webhook["path"]] = flow_id
        return flow_service_pb2.FindFlowsResponse(
            flow_ids=[each for each in request.flow_ids if each in self.flows],
            flow_ids_of_urls=[owners.get(url.path, "") for url in request.urls],
            has_urls=bool(owners),
        )

    async def GetFlow(self, request, context):  # noqa: N802 - the name of the RPC
        self.lookups.append(request.flow_id)
        if request.flow_id not in self.flows:
            await status.abort(context, NotFoundError("no such flow", reason="FLOW_NOT_FOUND"))
        return flow_service_pb2.GetFlowResponse(
            flow=flow_service_pb2.Flow(
                id=request.flow_id, definition=self.flows[request.flow_id], has_webhook=True, revision=3
            ),
            registry_revision=self.revision,
        )

    async def ResolveSecrets(self, request, context):  # noqa: N802 - the name of the RPC
        values = {name: self.secrets[name] for name in request.names if name in self.secrets}
        return secret_service_pb2.ResolveSecretsResponse(values=values, registry_revision=self.revision)

    async def WatchFlows(self, request, context):  # noqa: N802 - the name of the RPC
        seen = request.start_revision or self.revision
        while True:
            changed = self._changed
            if not self.silent:
                for revision, change in self.history:
                    if revision > seen:
                        seen = revision
                        yield flow_service_pb2.WatchFlowsResponse(revision=revision, **change)
                yield flow_service_pb2.WatchFlowsResponse(revision=seen, progress=flow_service_pb2.Progress())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), 0.2)

    async def ReportRejections(self, request, context):  # noqa: N802 - the name of the RPC
        self.rejections.extend(request.rejections)
        return rejection_service_pb2.ReportRejectionsResponse()

    async def ReportProcess(self, request, context):  # noqa: N802 - the name of the RPC
        return cluster_service_pb2.ReportProcessResponse()
