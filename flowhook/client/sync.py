"""Blocking client of the router."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import grpc

from flowhook.client import calls
from flowhook.client.bodies import Body
from flowhook.client.calls import AppliedFlow, ExecutionChange, HeaderPairs, ProcessInfo, ReplyPendingError, RpcCall
from flowhook.client.channel import CHANNEL_OPTIONS, tls_credentials
from flowhook.client.retrying import CallRetries, translate
from flowhook.model import Execution, ExecutionDetail, Flow, RejectedRequest, Reply, SecretInfo, Status

T = TypeVar("T")


class _Transport:
    """Carries out calls over one channel."""

    def __init__(self, target: str, token: str, credentials: grpc.ChannelCredentials | None, timeout: float) -> None:
        self.target = target
        self.timeout = timeout
        if credentials is None:
            channel = grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
        else:
            channel = grpc.secure_channel(target, credentials, options=CHANNEL_OPTIONS)
        self.channel = channel
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._stubs: dict[type, Any] = {}

    def call(self, call: RpcCall[T], timeout: float | None = None) -> T:
        attempts = CallRetries(call.repeatable, self.target, timeout or self.timeout, time.monotonic())
        method = self._method(call)
        while True:
            try:
                response = method(call.request, timeout=attempts.remaining(time.monotonic()), metadata=self._metadata)
            except grpc.RpcError as error:
                time.sleep(attempts.delay_after(error, time.monotonic()))
            else:
                return call.convert(response)

    def stream(self, call: RpcCall[T]) -> Iterator[T]:
        """Yield the messages of a stream, which ends when the iterator is closed."""
        stream = self._method(call)(call.request, metadata=self._metadata)
        try:
            for message in stream:
                yield call.convert(message)
        except grpc.RpcError as error:
            raise translate(error, self.target) from None
        finally:
            stream.cancel()

    def _method(self, call: RpcCall[Any]) -> Callable[..., Any]:
        if call.stub not in self._stubs:
            self._stubs[call.stub] = call.stub(self.channel)
        return cast("Callable[..., Any]", getattr(self._stubs[call.stub], call.method))


class Client:
    """A blocking client of the router; safe to share among threads. Close it, or use it in a `with` block.

    Every method raises the classes of `flowhook.errors`. In addition to those that it names, it may raise
    `UnauthenticatedError` and `PermissionDeniedError` for the token, `UnavailableError` while the router is
    unavailable, and `InvalidError` for invalid arguments. Idempotent calls are retried for up to 2 s while the router
    is unavailable.

    Attributes:
        flows: the registry of flows; scope `admin`.
        secrets: the secrets that flows refer to; scope `admin`.
        executions: past and present executions; scope `admin`.
        rejections: requests that edges refused; scope `admin`.
        cluster: the processes of the cluster; scope `admin`.
    """

    def __init__(
        self,
        target: str = "127.0.0.1:50051",
        *,
        token: str,
        ca_file: Path | None = None,
        cert_file: Path | None = None,
        key_file: Path | None = None,
        timeout: float = calls.DEFAULT_TIMEOUT,
    ) -> None:
        """Create a client, which connects on first use.

        Args:
            target: `host:port`.
            token: bearer token whose scopes cover the calls to make.
            ca_file: PEM certificates to verify the router's certificate; absent: no TLS.
            cert_file: PEM certificate to present to the router (mTLS), with `key_file`.
            key_file: PEM key of that certificate.
            timeout: seconds that a call may take, retries included; `invoke` has its own timeout.

        Raises:
            InvalidError: a file can't be read.
        """
        credentials = tls_credentials(ca_file=ca_file, cert_file=cert_file, key_file=key_file)
        self._transport = _Transport(target, token, credentials, timeout)
        self.flows = _Flows(self._transport)
        self.secrets = _Secrets(self._transport)
        self.executions = _Executions(self._transport)
        self.rejections = _Rejections(self._transport)
        self.cluster = _Cluster(self._transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls in progress fail."""
        self._transport.channel.close()

    def ingest(
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
            event_id: ID of the event, from `flowhook.ids.mint`, for callers that retry on their own.

        Raises:
            NotFoundError: the flow does not exist.
            ExhaustedError: the backlog is full; try again after `retry_after` seconds.
        """
        event = calls.new_event(
            flow, body, content_type=content_type, headers=headers, dedupe_key=dedupe_key, event_id=event_id
        )
        return self._transport.call(calls.ingest(event))

    def invoke(
        self,
        flow: str,
        body: Body,
        content_type: str = "application/json",
        headers: HeaderPairs = (),
        *,
        timeout: float = 30.0,
        dedupe_key: str = "",
        event_id: str | None = None,
    ) -> Reply:
        """Send one event to a flow and return its reply.

        Scope `ingest`. The execution continues if the caller disconnects.

        Args:
            flow: ID of the flow.
            body: as for `ingest`.
            content_type: as for `ingest`.
            headers: as for `ingest`.
            timeout: seconds to wait for the reply.
            dedupe_key: as for `ingest`.
            event_id: as for `ingest`; a second call with the same ID waits for the same execution.

        Raises:
            NotFoundError: the flow does not exist.
            ExhaustedError: the backlog is full.
            ReplyPendingError: there was no reply in time; the execution continues.
            ExecutionFailedError: the execution faulted or was cancelled.
        """
        event = calls.new_event(
            flow, body, content_type=content_type, headers=headers, dedupe_key=dedupe_key, event_id=event_id
        )
        deadline = time.monotonic() + timeout
        while True:
            wait = min(max(deadline - time.monotonic(), 0.001), calls.MAX_WAIT_SECONDS)
            try:
                return self._transport.call(calls.invoke(event, wait), timeout=wait + self._transport.timeout)
            except ReplyPendingError:
                if time.monotonic() >= deadline:
                    raise


class _Flows:
    """The registry of flows. Scope `admin`."""

    def __init__(self, transport: _Transport) -> None:
        self._transport = transport

    def apply(self, documents: Sequence[bytes], *, dry_run: bool = False) -> Sequence[AppliedFlow]:
        """Create or update flows, all of them or none; return one result per document, in order.

        Args:
            documents: 1 to 1000 documents, UTF-8 YAML.
            dry_run: only validate and compare.

        Raises:
            InvalidFlowError: documents are invalid; it lists all faults, with the document's index as `file`.
        """
        return self._transport.call(calls.apply_flows(documents, dry_run=dry_run))

    def get(self, flow_id: str, *, revision: int = 0) -> Flow:
        """Return a flow; revision 0 is the latest.

        Raises:
            NotFoundError: there is no such flow or revision.
        """
        return self._transport.call(calls.get_flow(flow_id, revision))

    def list(self) -> Iterator[Flow]:
        """Yield all flows by ascending ID; their `document` and `definition` are empty."""
        token = ""
        while True:
            page = self._transport.call(calls.list_flows(token))
            yield from page.items
            token = page.next_token
            if not token:
                return

    def pause(self, flow_id: str) -> Flow:
        """Pause a flow: its events are accepted and queued, but not run.

        Raises:
            NotFoundError: the flow does not exist.
        """
        return self._transport.call(calls.pause_flow(flow_id))

    def resume(self, flow_id: str) -> Flow:
        """Resume a paused flow: its queued and future events are run.

        Raises:
            NotFoundError: the flow does not exist.
        """
        return self._transport.call(calls.resume_flow(flow_id))

    def delete(self, flow_id: str) -> None:
        """Delete a flow; accepted executions still finish.

        Raises:
            NotFoundError: the flow does not exist.
        """
        self._transport.call(calls.delete_flow(flow_id))


class _Secrets:
    """The secrets that flows refer to. Scope `admin`."""

    def __init__(self, transport: _Transport) -> None:
        self._transport = transport

    def set(self, name: str, value: bytes) -> SecretInfo:
        """Create or replace a secret; `value` is 1 byte to 64 KiB.

        Raises:
            ExhaustedError: the limit on the number of secrets is reached.
        """
        return self._transport.call(calls.set_secret(name, value))

    def list(self) -> Sequence[SecretInfo]:
        """Return the names and times of all secrets, by ascending name."""
        return self._transport.call(calls.list_secrets())

    def delete(self, name: str) -> None:
        """Delete a secret.

        Raises:
            NotFoundError: the secret does not exist.
        """
        self._transport.call(calls.delete_secret(name))

    def resolve(self, names: Iterable[str], *, flow_id: str = "") -> dict[str, bytes]:
        """Return the values of secrets by name; secrets that are not set are left out.

        Scope `verify` for the secrets that the webhook of flow `flow_id` refers to; scope `run` for any.
        """
        return self._transport.call(calls.resolve_secrets(names, flow_id))


class _Rejections:
    """Requests that edges refused: a bounded log. Scope `admin` or `view`."""

    def __init__(self, transport: _Transport) -> None:
        self._transport = transport

    def list(self, *, flow_id: str = "", limit: int | None = None) -> Iterator[RejectedRequest]:
        """Yield refused requests, newest first, at most `limit` of them; their headers and bodies are left out."""
        token = ""
        while limit is None or limit > 0:
            size = calls.PAGE_SIZE if limit is None else min(limit, calls.PAGE_SIZE)
            page = self._transport.call(calls.list_rejections(flow_id, size, token))
            yield from page.items
            token = page.next_token
            if not token:
                return
            if limit is not None:
                limit -= len(page.items)

    def get(self, rejection_id: str) -> RejectedRequest:
        """Return a refused request.

        Raises:
            NotFoundError: the request is not, or no longer, in the log.
        """
        return self._transport.call(calls.get_rejection(rejection_id))


class _Executions:
    """Past and present executions. Scope `admin`."""

    def __init__(self, transport: _Transport) -> None:
        self._transport = transport

    def get(self, execution_id: str) -> ExecutionDetail:
        """Return an execution with its event, its journal and its output.

        Raises:
            NotFoundError: the execution is unknown, or past retention.
        """
        return self._transport.call(calls.get_execution(execution_id))

    def body(self, execution_id: str) -> Iterator[bytes]:
        """Yield the body of the request that started an execution, unchanged, in chunks.

        Raises:
            NotFoundError: the execution is unknown, or past retention.
        """
        return self._transport.stream(calls.read_body(execution_id))

    def list(
        self,
        *,
        flow_id: str = "",
        statuses: Iterable[Status] = (),
        limit: int | None = None,
        unresolved: bool = False,
    ) -> Iterator[Execution]:
        """Yield executions that meet all conditions, newest first, at most `limit` of them.

        Args:
            flow_id: only executions of this flow; empty: of any.
            statuses: only executions in one of these statuses; empty: in any.
            limit: how many executions to yield at most.
            unresolved: only executions that faulted, have no resolution and are not superseded by a replay; of an
                execution and its replays that all faulted, only the last.
        """
        wanted, token = tuple(statuses), ""
        while limit is None or limit > 0:
            size = calls.PAGE_SIZE if limit is None else min(limit, calls.PAGE_SIZE)
            page = self._transport.call(calls.list_executions(flow_id, wanted, size, token, unresolved=unresolved))
            yield from page.items
            token = page.next_token
            if not token:
                return
            if limit is not None:
                limit -= len(page.items)

    def replay(
        self,
        execution_id: str,
        *,
        latest: bool = False,
        from_failed: bool = False,
        request_id: str = "",
        unless_replayed: bool = False,
    ) -> Execution:
        """Start a new execution from the stored event of one that ended, and return it.

        Args:
            execution_id: ID of the execution to replay.
            latest: run the flow's latest revision instead of the revision that it ran.
            from_failed: start at the task that failed, with the journal before it and the same idempotency keys,
                instead of at the beginning.
            request_id: idempotency key: calls with the same one start one execution; at most 64 ASCII characters.
                Generated when absent, so that a call that is retried starts one execution.
            unless_replayed: refuse an execution that is `replayed`, or has a resolution.

        Raises:
            NotFoundError: the execution is unknown, or past retention.
            ConflictError: it has not ended; with `from_failed`: it did not fail, or nothing of it would run anew; with
                `unless_replayed`: it is replayed already (`EXECUTION_REPLAYED`), or resolved (`EXECUTION_RESOLVED`).
        """
        request_id = request_id or calls.new_request_id()
        return self._transport.call(
            calls.replay_execution(
                execution_id,
                latest=latest,
                from_failed=from_failed,
                request_id=request_id,
                unless_replayed=unless_replayed,
            )
        )

    def resolve(self, execution_id: str, reason: str = "") -> Execution:
        """Mark a failed execution as resolved, so that it needs no further action, and return it.

        Args:
            execution_id: ID of an execution that faulted or was cancelled.
            reason: text of at most 1000 characters; it replaces an earlier one.

        Raises:
            NotFoundError: the execution is unknown.
            ConflictError: it did not fail.
        """
        return self._transport.call(calls.resolve_execution(execution_id, reason))

    def cancel(self, execution_id: str) -> Execution:
        """Cancel an execution and return it.

        Raises:
            NotFoundError: the execution is unknown.
            ConflictError: it has already ended.
        """
        return self._transport.call(calls.cancel_execution(execution_id))

    def suspend(self, execution_id: str) -> Execution:
        """Suspend an execution until it is resumed, and return it.

        Raises:
            NotFoundError: the execution is unknown.
            ConflictError: it has already ended.
        """
        return self._transport.call(calls.suspend_execution(execution_id))

    def resume(self, execution_id: str) -> Execution:
        """Resume a suspended execution and return it.

        Raises:
            NotFoundError: the execution is unknown.
            ConflictError: it is not suspended.
        """
        return self._transport.call(calls.resume_execution(execution_id))

    def watch(self, *, flow_id: str = "") -> Iterator[ExecutionChange | None]:
        """Yield executions whenever their status changes; first None, as soon as no further change can be missed.

        Ends with an `UnavailableError` when the connection to the router is lost; watch again then.
        """
        return self._transport.stream(calls.watch_executions(flow_id))


class _Cluster:
    """The processes of the cluster. Scope `admin` or `view`."""

    def __init__(self, transport: _Transport) -> None:
        self._transport = transport

    def processes(self, *, metrics: bool = True) -> Sequence[ProcessInfo]:
        """Return the router and all processes that reported in the last 60 s, by name, with or without metrics."""
        return self._transport.call(calls.get_cluster(metrics=metrics))
