"""Client methods for the registry of flows, and for the secrets that flows refer to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from functools import partial
from typing import Final

from flowhook.client.aio.transport import AsyncTransport, iterate
from flowhook.client.values import HeaderPairs, Page, encode_headers
from flowhook.errors import Fault
from flowhook.model import Change, Flow, FlowRevision
from flowhook.model.flows import (
    AppliedFlow,
    FlowCondition,
    FlowStatistics,
    FlowStatisticsPage,
    SecretInfo,
    SecretUses,
    SignedRequest,
)
from flowhook.model.overview import Overview, Period
from flowhook.v1 import flow_service_pb2 as pb
from flowhook.v1 import secret_service_pb2
from flowhook.v1.flow_service_pb2_grpc import FlowServiceStub
from flowhook.v1.secret_service_pb2_grpc import SecretServiceStub
from flowhook.wire import convert
from flowhook.wire.mapping import enum_from_proto, enum_to_proto, from_proto

DOCUMENT_SECONDS: Final = 0.1
"""Time that a call may take longer for each document to check: ten times what a small one takes."""


class Flows:
    """The registry of flows. Scope `admin`. Methods for one flow raise a `NotFoundError` if it does not exist."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._stub = FlowServiceStub(transport.channel)

    async def apply(self, documents: Sequence[bytes], *, dry_run: bool = False) -> Sequence[AppliedFlow]:
        """Create or update flows, all of them or none; return one result per document, in order.

        The call may take 0.1 s a document longer than others.

        Args:
            documents: 1 to 1000 documents, UTF-8 YAML.
            dry_run: only validate and compare.

        Raises:
            InvalidFlowError: documents are invalid; it lists all faults, with the document's index as `file`.
        """
        request = pb.ApplyFlowsRequest(documents=documents, dry_run=dry_run)
        timeout = self._transport.timeout + DOCUMENT_SECONDS * len(documents)
        response = await self._transport.call(self._stub.ApplyFlows, request, timeout=timeout)
        return [
            AppliedFlow(
                from_proto(item.flow, Flow),
                enum_from_proto(item.change, Change, pb.AppliedFlow.Change),
                tuple(item.warnings),
                tuple(Fault("", each.line, each.key, each.message, each.code) for each in item.located_warnings),
            )
            for item in response.flows
        ]

    async def get(self, flow_id: str, *, revision: int = 0) -> Flow:
        """Return a flow; revision 0 is the latest. Raises NotFoundError also if there is no such revision."""
        request = pb.GetFlowRequest(flow_id=flow_id, revision=revision)
        return await self._transport.item(self._stub.GetFlow, request, Flow)

    def list(self) -> AsyncIterator[Flow]:
        """Yield all flows by ascending ID; their `document` and `definition` are empty."""
        return iterate(self.page)

    async def page(self, *, page_size: int = 100, page_token: str = "") -> Page[Flow]:
        """Return a page of what `list` yields (see `Page`)."""
        request = pb.ListFlowsRequest(page_size=page_size, page_token=page_token)
        return await self._transport.page(self._stub.ListFlows, request, Flow)

    def revisions(self, flow_id: str, *, limit: int | None = None) -> AsyncIterator[FlowRevision]:
        """Yield the stored revisions of a flow, newest first, at most `limit` of them."""
        return iterate(partial(self.revisions_page, flow_id), limit)

    async def revisions_page(self, flow_id: str, *, page_size: int = 100, page_token: str = "") -> Page[FlowRevision]:
        """Return a page of what `revisions` yields (see `Page`)."""
        request = pb.ListRevisionsRequest(flow_id=flow_id, page_size=page_size, page_token=page_token)
        return await self._transport.page(self._stub.ListRevisions, request, FlowRevision)

    async def statistics(self, flow_id: str) -> FlowStatisticsPage:
        """Return the numbers of one flow, as a page with one item."""
        request = pb.GetFlowStatisticsRequest(flow_id=flow_id)
        response = await self._transport.call(self._stub.GetFlowStatistics, request)
        item = from_proto(response.statistics, FlowStatistics)
        return FlowStatisticsPage([item], "", convert.milliseconds(response.since))

    def list_statistics(
        self, *, name_contains: str = "", condition: FlowCondition | None = None
    ) -> AsyncIterator[FlowStatistics]:
        """Yield the flows that meet the conditions with their numbers, by ascending ID."""
        return iterate(partial(self.statistics_page, name_contains=name_contains, condition=condition))

    async def statistics_page(
        self,
        *,
        name_contains: str = "",
        condition: FlowCondition | None = None,
        page_size: int = 100,
        page_token: str = "",
    ) -> FlowStatisticsPage:
        """Return a page of flows with their numbers, by ascending ID; `page_size` and `page_token` are as for `Page`.

        With conditions only flows whose ID contains a text, or that are in a condition.
        """
        request = pb.ListFlowStatisticsRequest(
            page_size=page_size,
            page_token=page_token,
            name_contains=name_contains,
            condition=enum_to_proto(condition, pb.FlowCondition),
        )
        response = await self._transport.call(self._stub.ListFlowStatistics, request)
        found = [from_proto(each, FlowStatistics) for each in response.statistics]
        return FlowStatisticsPage(found, response.next_page_token, convert.milliseconds(response.since))

    async def overview(self, flow_id: str = "", *, period: Period = Period.HOUR) -> Overview:
        """Return numbers over a period up to now, of a flow, or of all flows if no ID is given."""
        request = pb.GetOverviewRequest(flow_id=flow_id, period=enum_to_proto(period, pb.Period))
        return await self._transport.item(self._stub.GetOverview, request, Overview)

    async def pause(self, flow_id: str) -> Flow:
        """Pause a flow: its events are accepted and queued, but not run."""
        return await self._transport.item(self._stub.PauseFlow, pb.PauseFlowRequest(flow_id=flow_id), Flow)

    async def resume(self, flow_id: str) -> Flow:
        """Resume a paused flow: its queued and future events are run."""
        return await self._transport.item(self._stub.ResumeFlow, pb.ResumeFlowRequest(flow_id=flow_id), Flow)

    async def delete(self, flow_id: str) -> None:
        """Delete a flow; accepted executions still finish."""
        await self._transport.call(self._stub.DeleteFlow, pb.DeleteFlowRequest(flow_id=flow_id), repeatable=False)

    async def sign_webhook(
        self,
        flow_id: str,
        base_url: str,
        body: bytes,
        *,
        method: str = "",
        content_type: str = "application/json",
        headers: HeaderPairs = (),
        new_delivery_id: bool = False,
    ) -> SignedRequest:
        """Return the HTTP request that a sender of the flow would make, signed with the flow's present secrets.

        Nothing is sent.

        Args:
            flow_id: ID of the flow.
            base_url: scheme and host at which senders reach the edges.
            body: at most 1 MiB.
            method: upper case; empty: POST if the flow accepts it, else the first method that it accepts.
            content_type: media type of the body; empty: none.
            headers: further headers; signatures and timestamps among them are replaced.
            new_delivery_id: make it no repeated delivery.

        Raises:
            InvalidError: the request can't be made or signed; the reason says why.
        """
        request = pb.SignWebhookRequest(
            flow_id=flow_id,
            base_url=base_url,
            method=method,
            content_type=content_type,
            headers=convert.headers_to_proto(encode_headers(headers)),
            body=body,
            new_delivery_id=new_delivery_id,
        )
        response = await self._transport.call(self._stub.SignWebhook, request)
        place = response.credential.WhichOneof("place")
        return SignedRequest(
            method=response.method,
            url=response.url,
            headers=convert.headers_from_proto(response.headers),
            body=response.body,
            auth_kind=response.auth_kind,
            secret_name=response.secret_name,
            validity=convert.seconds(response.validity) if response.HasField("validity") else None,
            credential=place and (place.removesuffix("_username"), getattr(response.credential, place)),
        )


class Secrets:
    """The secrets that flows refer to. Scope `admin`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._stub = SecretServiceStub(transport.channel)

    async def set(self, name: str, value: bytes) -> SecretInfo:
        """Create or replace a secret; `value` is 1 byte to 64 KiB. Raises ExhaustedError: there are too many."""
        request = secret_service_pb2.SetSecretRequest(name=name, value=value)
        return await self._transport.item(self._stub.SetSecret, request, SecretInfo)

    async def list(self) -> Sequence[SecretInfo]:
        """Return the names and times of all secrets, by ascending name."""
        response = await self._transport.call(self._stub.ListSecrets, secret_service_pb2.ListSecretsRequest())
        return [from_proto(secret, SecretInfo) for secret in response.secrets]

    async def uses(self) -> SecretUses:
        """Return all secrets, and those that flows name and that are missing, each with the flows that name it."""
        request = secret_service_pb2.ListSecretsRequest(with_uses=True)
        return await self._transport.value(self._stub.ListSecrets, request, SecretUses)

    async def delete(self, name: str) -> None:
        """Delete a secret; raises NotFoundError if it does not exist."""
        request = secret_service_pb2.DeleteSecretRequest(name=name)
        await self._transport.call(self._stub.DeleteSecret, request, repeatable=False)

    async def resolve(self, names: Iterable[str], *, flow_id: str = "") -> dict[str, bytes]:
        """Return the values of secrets by name; secrets that are not set are left out.

        Scope `verify` for the secrets that the webhook of flow `flow_id` refers to; scope `run` for any.
        """
        request = secret_service_pb2.ResolveSecretsRequest(names=names, flow_id=flow_id)
        return dict((await self._transport.call(self._stub.ResolveSecrets, request)).values)
