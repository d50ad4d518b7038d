"""A router that speaks the Attach protocol for real and decides nothing: the tests do."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc.aio
import orjson
import pytest
import structlog
from aiohttp import web
from amqtt.broker import Broker
from confluent_kafka import Producer
from support.amqp_broker import AmqpBroker
from support.attach_messages import entry_message
from support.http_servers import http_server as serving
from support.patience import PATIENCE
from support.ports import free_port

from flowhook.client.channel import SERVER_OPTIONS
from flowhook.errors import NotFoundError
from flowhook.events import ids
from flowhook.model import Event
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import RunnerSettings
from flowhook.security.address_policy import AddressPolicy
from flowhook.v1 import (
    cluster_service_pb2,
    cluster_service_pb2_grpc,
    flow_service_pb2,
    flow_service_pb2_grpc,
    runner_service_pb2,
    runner_service_pb2_grpc,
    secret_service_pb2,
    secret_service_pb2_grpc,
)
from flowhook.wire import convert, status
from runner import app
from runner.components.base import SharedResources
from runner.components.registry import components
from runner.interpreter.effects import Perform
from runner.interpreter.errors import Kind, fault
from runner.outbound.http_client import HttpClient
from runner.outbound.request_bodies import NO_ATTACHMENTS
from runner.worker.effect_executor import EffectExecutor

MOSQUITTO = shutil.which("mosquitto")


@pytest.fixture(autouse=True)
def _restore_logging():
    """Give structlog back as it was."""
    yield
    structlog.reset_defaults()


@dataclass
class Stream:
    """One Attach call as the router sees it."""

    hello: runner_service_pb2.Hello
    responses: asyncio.Queue[runner_service_pb2.AttachResponse | None]
    outcomes: list[runner_service_pb2.Outcome] = field(default_factory=list)
    checkpoints: list[runner_service_pb2.Checkpoint] = field(default_factory=list)
    subscriptions: list[runner_service_pb2.SubscriptionUpdate] = field(default_factory=list)
    credit: int = 0
    renewals: int = 0
    renewed_at: list[float] = field(default_factory=list)
    stamp: int = 0
    closed: bool = False

    def close(self) -> None:
        self.responses.put_nowait(None)


class Router(
    runner_service_pb2_grpc.RunnerServiceServicer,
    flow_service_pb2_grpc.FlowServiceServicer,
    secret_service_pb2_grpc.SecretServiceServicer,
    cluster_service_pb2_grpc.ClusterServiceServicer,
):
    """The services a runner uses."""

    def __init__(self):
        self.definitions = {}
        self.secrets = {}
        self.away = 0  # requests for secrets that are yet to be refused
        self.streams: list[Stream] = []
        self.kept: set[bytes] | None = None
        self.settles = True
        self.acknowledges = True
        self.answers_renewals = True
        self.lease_seconds = 60.0
        self.bundled = []  # kinds of messages that came as one
        self.reports = []
        self.exits: list[runner_service_pb2.ReportExitRequest] = []
        self.vouched = 0
        self.leases = 0
        self.emitted = []
        self.started = []
        self.refusals = []  # errors that the next effects get
        self.attach_refusals = []
        self.callback_key = b""
        self.bodies = {}  # by execution
        self.reads = []
        self.changed = asyncio.Condition()

    def register(self, server):
        """Let a server offer its services."""
        runner_service_pb2_grpc.add_RunnerServiceServicer_to_server(self, server)
        flow_service_pb2_grpc.add_FlowServiceServicer_to_server(self, server)
        secret_service_pb2_grpc.add_SecretServiceServicer_to_server(self, server)
        cluster_service_pb2_grpc.add_ClusterServiceServicer_to_server(self, server)

    async def serve(self, port=0):
        self.server = grpc.aio.server(options=SERVER_OPTIONS)
        self.register(self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port or free_port()}")
        await self.server.start()

    async def stop(self):
        await self.server.stop(None)

    async def Attach(self, requests, context):  # noqa: N802
        first = await anext(aiter(requests))
        if self.attach_refusals:  # only now: a write that fails makes gRPC say INTERNAL instead, if it is the first to
            await status.abort(context, self.attach_refusals.pop(0))
        stream = Stream(first.hello, asyncio.Queue())
        self.streams.append(stream)
        retained = list(first.hello.held_leases) if self.kept is None else list(self.kept)
        yield runner_service_pb2.AttachResponse(
            welcome=runner_service_pb2.Welcome(
                lease_duration=convert.duration(self.lease_seconds),
                retained_leases=retained,
            )
        )
        await self._notify()
        reader = asyncio.create_task(self._read(requests, stream))
        try:
            while (response := await stream.responses.get()) is not None:
                yield response
        finally:
            reader.cancel()
            stream.closed = True

    async def _read(self, requests, stream):
        async for message in requests:
            parts = list(message.bundle.requests) or [message]
            if message.HasField("bundle"):
                self.bundled.append([part.WhichOneof("message") for part in parts])
            for part in parts:
                self._take(part, stream)
            await self._notify()
        stream.close()

    def _take(self, request, stream):
        kind = request.WhichOneof("message")
        if kind == "credit":
            stream.credit += request.credit.assignments
        elif kind == "renewal":
            stream.renewals += 1
            stream.renewed_at.append(asyncio.get_running_loop().time())
            stream.stamp = request.renewal.stamp
            if self.answers_renewals:
                self.renew(stream)
        elif kind == "checkpoints":
            stream.checkpoints.extend(request.checkpoints.checkpoints)
            if self.acknowledges:
                self.acknowledge(stream, request.checkpoints.checkpoints)
        elif kind == "subscriptions":
            stream.subscriptions.extend(request.subscriptions.updates)
        elif kind == "outcomes":
            stream.outcomes.extend(request.outcomes.outcomes)
            if self.settles:
                settled = [outcome.lease for outcome in request.outcomes.outcomes]
                stream.responses.put_nowait(
                    runner_service_pb2.AttachResponse(settlement=runner_service_pb2.Settlement(leases=settled))
                )

    def renew(self, stream):
        """Answer the last renewal."""
        stream.responses.put_nowait(
            runner_service_pb2.AttachResponse(renewed=runner_service_pb2.Renewed(stamp=stream.stamp))
        )

    def acknowledge(self, stream, checkpoints):
        stream.responses.put_nowait(
            runner_service_pb2.AttachResponse(
                checkpointed=runner_service_pb2.CheckpointAck(
                    checkpoints=[
                        runner_service_pb2.DurableCheckpoint(
                            lease=item.lease, index=item.index - (not item.HasField("entry")), number=item.number
                        )
                        for item in checkpoints
                    ]
                )
            )
        )

    async def GetFlow(self, request, context):  # noqa: N802
        definition = self.definitions.get((request.flow_id, request.revision))
        if definition is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such flow")
        return flow_service_pb2.GetFlowResponse(
            flow=flow_service_pb2.Flow(
                id=request.flow_id, definition=orjson.dumps(definition), revision=request.revision
            ),
            callback_key=self.callback_key,
        )

    async def ResolveSecrets(self, request, context):  # noqa: N802
        if self.away:
            self.away -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        values = {name: self.secrets[name] for name in request.names if name in self.secrets}
        return secret_service_pb2.ResolveSecretsResponse(values=values)

    async def EmitEvent(self, request, context):  # noqa: N802
        await self._refuse(context)
        self.emitted.append(request)
        return runner_service_pb2.EmitEventResponse(receivers=2)

    async def StartExecution(self, request, context):  # noqa: N802
        await self._refuse(context)
        self.started.append(request)
        return runner_service_pb2.StartExecutionResponse(execution_id="evt_child")

    async def ReadAttachment(self, request, context):  # noqa: N802
        self.reads.append(request)
        await self._refuse(context)
        if request.execution_id not in self.bodies:
            await status.abort(context, NotFoundError("it is gone", reason="BODY_NOT_FOUND"))
        slice_ = self.bodies[request.execution_id][request.offset : request.offset + request.size]
        for start in range(0, len(slice_), 1000):
            yield runner_service_pb2.ReadAttachmentResponse(chunk=slice_[start : start + 1000])

    async def _refuse(self, context):
        if self.refusals:
            await status.abort(context, self.refusals.pop(0))

    async def ReportExit(self, request, context):  # noqa: N802
        self.exits.append(request)
        await self._notify()
        return runner_service_pb2.ReportExitResponse()

    async def RenewLeases(self, request, context):  # noqa: N802
        self.vouched += 1
        await self._notify()
        return runner_service_pb2.RenewLeasesResponse()

    async def ReportProcess(self, request, context):  # noqa: N802
        self.reports.append(request.process)
        await self._notify()
        return cluster_service_pb2.ReportProcessResponse()

    async def _notify(self):
        async with self.changed:
            self.changed.notify_all()

    async def until(self, condition):
        """Wait until `condition()` is true and return what it returned."""
        async with asyncio.timeout(PATIENCE), self.changed:
            await self.changed.wait_for(lambda: bool(condition()))
        return condition()

    async def attached(self, count=1):
        await self.until(lambda: len(self.streams) >= count)
        return self.streams[-1]

    def assignment(
        self, flow_id, body=None, *, revision=1, journal=(), attempt=1, receive_time_ms=1_700_000_000_000, **fields
    ):
        """Return an assignment of a new execution; its lease is short and unique."""
        self.leases += 1
        event = Event(
            ids.mint(ids.slot_of(flow_id)),
            flow_id,
            receive_time_ms,
            None,
            "",
            "POST",
            f"/hook/{flow_id}",
            "",
            "application/json",
            (),
            orjson.dumps(body),
            **fields,
        )
        return runner_service_pb2.Assignment(
            lease=b"lease-%d" % self.leases,
            attempt=attempt,
            flow_revision=revision,
            event=convert.event_to_bytes(event),
            journal=[entry_message(entry) for entry in journal],
        )

    def assign(self, stream, *assignments):
        stream.responses.put_nowait(
            runner_service_pb2.AttachResponse(assignments=runner_service_pb2.AssignmentBatch(assignments=assignments))
        )

    async def outcome(self, lease):
        """Wait for the outcome of a lease, on whichever stream it comes, or with the end of the process that had it."""

        def find():
            found = [item for stream in self.streams for item in stream.outcomes]
            found += [exit_.evaluated for exit_ in self.exits]
            return [item for item in found if item.lease == lease]

        return (await self.until(find))[-1]

    async def run(self, stream, flow_id, body=None, **more):
        """Assign one execution and return its outcome."""
        assignment = self.assignment(flow_id, body, **more)
        self.assign(stream, assignment)
        return await self.outcome(assignment.lease)

    def define(self, flow_id, do, revision=1, **more):
        self.definitions[flow_id, revision] = {
            "document": {"dsl": "1.0.3", "namespace": "default", "name": flow_id, "version": "1.0.0"},
            "webhook": {"auth": "none"},
            "do": do,
            **more,
        }


@pytest.fixture
async def router() -> AsyncIterator[Router]:
    router = Router()
    await router.serve()
    yield router
    await router.stop()


@pytest.fixture
def settings(router, request) -> RunnerSettings:
    """Settings of the runner; a test changes some by `parametrize("settings", [{…}], indirect=True)`."""
    usual = RunnerSettings(
        router=f"127.0.0.1:{router.port}",
        token="test-token",
        process_name="runner-1",
        concurrency=32,
        expression_seconds=0.5,
        expression_bytes=64 * 1024 * 1024,
        allow_private_addresses=True,
        http_timeout=60.0,
        drain_seconds=0.5,
    )
    return usual.model_copy(update=getattr(request, "param", {}))


class Served:
    """A whole runner, parent and child, served inside the test's loop."""

    def __init__(self, settings):
        self.lifecycle = ProcessState(name=settings.process_name, role="runner")
        self.task = asyncio.create_task(app.serve(settings, self.lifecycle))

    async def stop(self):
        self.lifecycle.stop.set()
        async with asyncio.timeout(PATIENCE):
            await self.task


@pytest.fixture
async def served(settings, router):
    served = Served(settings)
    yield served
    if not served.task.done():
        await served.stop()


@pytest.fixture
async def following(settings, router):
    """Serve another runner, after the first one; returns it once it is called."""
    started = []

    def start():
        started.append(Served(settings))
        return started[-1]

    yield start
    for served in started:
        if not served.task.done():
            await served.stop()


@pytest.fixture
async def http_server():
    """Serve HTTP with a handler on a free port; returns the base URL."""
    async with contextlib.AsyncExitStack() as stack:
        yield lambda handler, **options: stack.enter_async_context(serving(handler, **options))


@pytest.fixture(scope="module")
def kafka():
    """librdkafka's mock cluster, which lives as long as its producer."""
    producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "ignored", "log_level": 0})
    (broker,) = producer.list_topics(timeout=PATIENCE).brokers.values()
    yield f"{broker.host}:{broker.port}"
    producer.flush(1)


@pytest.fixture
async def amqp():
    broker = AmqpBroker()
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
async def mqtt(tmp_path):
    """Run mosquitto if it is installed, else amqtt in this process; the address says which one it is."""
    port = free_port()
    if MOSQUITTO is not None:
        configuration = tmp_path / "mosquitto.conf"
        configuration.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
        command, errors = (MOSQUITTO, "-c", str(configuration)), asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stderr=errors)
        async with asyncio.timeout(PATIENCE):
            while line := await process.stderr.readline():
                if b"running" in line:
                    break
        yield f"127.0.0.1:{port}"
        process.terminate()
        await process.communicate()
        return
    listeners = {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}}
    broker = Broker({"listeners": listeners, "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {}}})
    await broker.start()
    yield f"127.0.0.1:{port}"
    await broker.shutdown()


@pytest.fixture
async def documents(http_server):
    """Serve a document that describes an API, and return the resource."""

    async def serve(content):
        body = content if isinstance(content, bytes) else orjson.dumps(content)

        async def answer(_request):
            return web.Response(body=body)

        return {"endpoint": f"{await http_server(answer)}/document.json"}

    return serve


@pytest.fixture
def perform():
    """Perform one call and return its `Result`."""

    async def run(
        function="http",
        *,
        allow=True,
        processes=False,
        secrets=None,
        seconds=PATIENCE,
        extra=(),
        effect=None,
        attachments=NO_ATTACHMENTS,
        **arguments,
    ):
        base = arguments.pop("base", "https://api.x.com")
        settings = RunnerSettings(
            http_timeout=seconds,
            twitter_base_url=base,
            allow_private_addresses=allow,
            allow_processes=processes,
        )

        async def secret(name):
            if name not in (secrets or {}):
                raise fault(Kind.CONFIGURATION, f"the secret {name} is not set")
            return secrets[name]

        wanted = Perform("/do/0/ask#0", function, arguments, "/do/0/ask", **(effect or {}))
        async with HttpClient(address_policy=settings.address_policy) as http, SharedResources(settings) as shared:
            everything = {**components(), **{item.name: item for item in extra}}
            return await EffectExecutor(everything, http, settings, shared).perform(
                "evt_1", wanted, secret, attachments
            )

    return run


@pytest.fixture
async def caller():
    """Perform calls that share what calls of a process share, and return each `Result`."""
    settings = RunnerSettings(http_timeout=PATIENCE, allow_private_addresses=True)
    async with HttpClient(address_policy=AddressPolicy.ALL) as http, SharedResources(settings) as shared:
        process = EffectExecutor(components(), http, settings, shared)

        async def run(function, **arguments):
            return await process.perform("evt_1", Perform("/do/0/ask#0", function, arguments, "/do/0/ask"), None)

        yield run


@pytest.fixture
def call(perform):
    """Perform one call and return its output, or its error."""

    async def run(function="http", **options):
        result = await perform(function, **options)
        return result.error or orjson.loads(result.output)

    return run
