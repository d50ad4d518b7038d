"""Streams large bodies from the sender to the router's disk, while verifying, splitting and hashing them.

An edge holds only a few pieces of a body in memory. If the body is refused, at once or at its very end, the edge
cancels the upload without giving the router a reason, and the router retains nothing of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple

import attrs
import orjson

from edge.http.head import Head
from edge.http.request import BodyStream
from edge.metrics import EdgeMetrics
from edge.router.client import RouterClient, Upload
from edge.webhook.compiled_endpoints import CompiledEndpoint
from edge.webhook.stages import Delivery
from flowhook.errors import InvalidError, UnavailableError
from flowhook.model import Blob, Part
from flowhook.payloads.multipart import MultipartSplitter
from flowhook.payloads.parsing import to_structured
from flowhook.sharing.limit import network_of
from flowhook.signatures.schemes import StreamingAuthentication
from flowhook.signatures.types import Match, SignatureError, Verifier
from flowhook.v1.ingest_service_pb2 import UploadStart


class SignatureRejectedError(Exception):
    """No signature of a body was valid; `errors`: the cause for each verifier."""

    def __init__(self, errors: Sequence[SignatureError]) -> None:
        super().__init__(len(errors))
        self.errors = errors


class UploadedBody(NamedTuple):
    """A body that is durable, and whose event is not stored yet."""

    blob: Blob
    parts: tuple[Part, ...]
    form: bytes  # fields of a form as JSON; empty when the body is no form
    content: Any  # the value of `.body`


@attrs.define(eq=False, repr=False)
class BodyUploads:
    """Uploads large bodies. The router has `timeout` seconds for each piece."""

    _router: RouterClient
    _metrics: EdgeMetrics
    _timeout: float
    under_way: int = attrs.field(init=False, default=0)  # number of uploads in progress

    async def store(
        self,
        delivery: Delivery,
        body: BodyStream,
        verified: tuple[Verifier, Match] | None,
        *,
        admit: Callable[[Any], Awaitable[None]],
    ) -> UploadedBody:
        """Store a body while it arrives.

        `verified` is the verifier that passed without the body, and its match. `admit` is called at the end, when the
        delivery is verified, with the value of `.body`; its exceptions propagate.

        Raises:
            SignatureRejectedError: no signature is valid.
            InvalidError: the body is not multipart, although its Content-Type says so (`BODY_INVALID`).
            FlowhookError: the router does not accept the body.
            BodyTooLargeError, StreamClosedError: raised by `body`.
        """
        endpoint, head, request = delivery.endpoint, delivery.head, delivery.request
        proofs = StreamingAuthentication(() if verified else endpoint.streaming, request, time.time())
        if not verified and not proofs.may_pass:
            raise SignatureRejectedError(proofs.errors)
        scan = _Scan(endpoint, head)
        if verified:
            scan.check()
        self.under_way += 1
        try:
            proven = endpoint.asks and verified is not None
            sender = network_of(delivery.address)  # while it is unverified
            start = UploadStart(flow_id=endpoint.flow_id, size=body.size, proven=proven, sender=sender)
            upload = await self._router.upload(start, self._timeout)
            try:
                await _until_it_ends(upload, self._send(body, upload, proofs, scan))
                passed = verified or proofs.finish()
                if passed is None:
                    raise SignatureRejectedError(proofs.errors)
                delivery.verified = passed
                form, parts = scan.end()
                value = orjson.loads(form) if form else None
                content = None if endpoint.raw else to_structured(head.content_type, head.headers, value)
                await admit(content)
                return UploadedBody(await upload.finish(), parts, form, content)
            finally:
                upload.cancel()
        finally:
            self.under_way -= 1

    async def _send(
        self, body: BodyStream, upload: Upload, authentication: StreamingAuthentication, scan: _Scan
    ) -> None:
        async for piece in body:
            authentication.update(piece)
            scan.feed(piece)
            if scan.problem is None:
                await upload.write(piece)
                self._metrics.streamed_bytes += len(piece)
            else:
                upload.cancel()
                if not authentication.may_pass:
                    scan.check()  # else it is raised at the end, so that only a verified sender learns of it


async def _until_it_ends(upload: Upload, sending: Coroutine[Any, Any, None]) -> None:
    """Send a body; stop waiting for the rest of it once the router has ended the upload."""
    task = asyncio.ensure_future(sending)
    upload.on_end(task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        current = asyncio.current_task()
        if current is not None and current.cancelling():
            raise
        await upload.outcome()
        raise UnavailableError("the router ended the upload") from None
    finally:
        task.cancel()


class _Scan:
    """Incremental parser of a multipart body; `problem`: why a body that is declared as multipart is not."""

    def __init__(self, endpoint: CompiledEndpoint, head: Head) -> None:
        self._parts: MultipartSplitter | None = None
        self.problem: InvalidError | None = None
        if endpoint.splits_multipart(head):
            try:
                self._parts = MultipartSplitter(head.content_type)
            except InvalidError as error:
                self.problem = error

    def feed(self, data: bytes) -> None:
        if self._parts is not None and self.problem is None:
            try:
                self._parts.feed(data)
            except InvalidError as error:
                self.problem = error

    def check(self) -> None:
        if self.problem is not None:
            raise self.problem

    def end(self) -> tuple[bytes, tuple[Part, ...]]:
        """Return fields as JSON, and attachments; both empty if the body is one. InvalidError: not multipart."""
        self.check()
        return (b"", ()) if self._parts is None else self._parts.end()
