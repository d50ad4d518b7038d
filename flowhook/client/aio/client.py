"""Asyncio client of the router."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final, Self

from flowhook.client.aio.executions import Executions, Jobs
from flowhook.client.aio.flows import Flows, Secrets
from flowhook.client.aio.operations import Audit, Cluster, Incidents, Rejections
from flowhook.client.aio.transport import AsyncTransport
from flowhook.client.channel import tls_credentials
from flowhook.client.router_errors import TAKEOVER
from flowhook.client.values import Body, ExecutionFailedError, HeaderPairs, ReplyPendingError, check_timeout, new_event
from flowhook.errors import InternalError
from flowhook.model import Reply, WorkflowError
from flowhook.v1.ingest_service_pb2 import IngestEventsRequest, IngestEventsResponse, InvokeFlowRequest
from flowhook.v1.ingest_service_pb2_grpc import IngestServiceStub
from flowhook.wire import convert
from flowhook.wire.mapping import from_proto
from flowhook.wire.status import failure_from_proto

DEFAULT_TIMEOUT: Final = 15.0  # seconds that a call may take, retries included
MAX_WAIT_SECONDS: Final = 300.0  # longest wait of one InvokeFlow call; `invoke` repeats the call until its own timeout


class AsyncClient:
    """An asyncio client of the router, for one event loop. Close it, or use it in an `async with` block.

    Every method raises the classes of `flowhook.errors`. In addition to those that it names, it may raise
    `UnauthenticatedError` and `PermissionDeniedError` for the token, `UnavailableError` while the router is
    unavailable, and `InvalidError` for invalid arguments. Idempotent calls are retried for up to 2 s while the router
    is unavailable; for up to 15 s, within their timeout, if the client knows several routers.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        token: str,
        ca_file: Path | None = None,
        cert_file: Path | None = None,
        key_file: Path | None = None,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        """Create a client, which connects on first use.

        Args:
            target: `host:port` of the router; of several routers, separated by commas (at most 16), of which the
                client calls the one that owns the data.
            token: bearer token whose scopes cover the calls to make.
            ca_file: PEM certificates to verify the router's certificate; absent: no TLS.
            cert_file: PEM certificate to present to the router (mTLS), with `key_file`.
            key_file: PEM key of that certificate.
            timeout: seconds that a call may take, retries included, above 0; `invoke` has its own timeout.

        Raises:
            InvalidError: a file can't be read, the timeout is not above 0, or one of several routers is no `host:port`.
        """
        check_timeout(timeout)
        credentials = tls_credentials(ca_file=ca_file, cert_file=cert_file, key_file=key_file)
        self._transport = AsyncTransport(target, token, credentials, timeout)
        self._stub = IngestServiceStub(self._transport.channel)
        self.flows = Flows(self._transport)
        self.secrets = Secrets(self._transport)
        self.executions = Executions(self._transport)
        self.jobs = Jobs(self._transport)
        self.rejections = Rejections(self._transport)
        self.incidents = Incidents(self._transport)
        self.cluster = Cluster(self._transport)
        self.audit = Audit(self._transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls in progress fail."""
        await self._transport.close()

    async def ingest(
        self,
        flow: str,
        body: Body,
        content_type: str = "application/json",
        headers: HeaderPairs = (),
        *,
        dedupe_key: str = "",
        event_id: str | None = None,
    ) -> str:
        """Send one event to a flow and return the ID of its execution. Returns once the event is durable.

        Scope `ingest`. Retries are idempotent: the event keeps its ID.

        Args:
            flow: ID of the flow.
            body: bytes are sent unchanged, text as UTF-8, anything else as JSON.
            content_type: media type of the body.
            headers: pairs of name and value, visible to the flow.
            dedupe_key: events of this flow with the same key, within the flow's window, are duplicates of the first.
            event_id: ID of the event, from `flowhook.events.ids.mint`, for callers that retry on their own.

        Raises:
            NotFoundError: the flow does not exist.
            ExhaustedError: the backlog is full; try again after `retry_after` seconds.
        """
        event = new_event(
            flow, body, content_type=content_type, headers=headers, dedupe_key=dedupe_key, event_id=event_id
        )
        request = IngestEventsRequest(events=[convert.event_to_proto(event)])
        response = await self._transport.call(self._stub.IngestEvents, request, check=_check_resolved)
        if len(response.results) != 1:
            raise InternalError(f"the router returned {len(response.results)} results for one event")
        result = response.results[0]
        if result.WhichOneof("outcome") != "accepted":
            raise failure_from_proto(result.rejected)
        return result.accepted.execution_id

    async def invoke(
        self,
        flow: str,
        body: Body,
        content_type: str = "application/json",
        headers: HeaderPairs = (),
        *,
        timeout: float = 30.0,  # noqa: ASYNC109 - part of the request
        dedupe_key: str = "",
        event_id: str | None = None,
    ) -> Reply:
        """Send one event to a flow and return its reply. The execution continues if the caller disconnects.

        Scope `ingest`. The arguments are those of `ingest`, and `timeout`: seconds to wait for the reply, above 0. A
        second call with the same `event_id` waits for the same execution.

        Raises:
            NotFoundError: the flow does not exist.
            ExhaustedError: the backlog is full.
            ReplyPendingError: there was no reply in time; the execution continues.
            ExecutionFailedError: the execution faulted or was cancelled.
        """
        check_timeout(timeout)
        event = convert.event_to_proto(
            new_event(flow, body, content_type=content_type, headers=headers, dedupe_key=dedupe_key, event_id=event_id)
        )
        deadline = time.monotonic() + timeout
        while True:
            wait = min(max(deadline - time.monotonic(), 0.001), MAX_WAIT_SECONDS)
            request = InvokeFlowRequest(event=event, max_wait=convert.duration(wait))
            within = wait + self._transport.timeout
            response = await self._transport.call(self._stub.InvokeFlow, request, timeout=within)
            match response.WhichOneof("outcome"):
                case "reply":
                    return convert.reply_from_proto(response.reply)
                case "error":
                    raise ExecutionFailedError(response.execution_id, from_proto(response.error, WorkflowError))
            if time.monotonic() >= deadline:
                raise ReplyPendingError(response.execution_id)


def _check_resolved(response: IngestEventsResponse) -> None:
    """Check that the router did not lose the shard while it stored the events: else they may be stored, or not."""
    for result in response.results:
        if result.rejected.reason in TAKEOVER:
            raise failure_from_proto(result.rejected)
