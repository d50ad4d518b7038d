"""FlowService: applies, queries and deletes flows, and streams their changes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import replace
from operator import attrgetter
from typing import Final

import attrs
import orjson

from flowhook import limits
from flowhook.document.diagnostics.problems import Code
from flowhook.document.loader import canonical, load_definition
from flowhook.document.named_secrets import names_of
from flowhook.errors import Fault, InvalidError, InvalidFlowError, NotFoundError
from flowhook.model import Change, Flow
from flowhook.model.flows import FlowCondition
from flowhook.model.overview import Period
from flowhook.process.metric_table import OTHER
from flowhook.providers.scheme import TOKEN
from flowhook.security.address_policy import AddressPolicy
from flowhook.security.tokens import TokenScope
from flowhook.sender import WebhookRequest, sign_webhook
from flowhook.v1 import flow_service_pb2 as pb
from flowhook.v1 import flow_service_pb2_grpc
from flowhook.wire import convert
from flowhook.wire.mapping import enum_to_proto, to_proto
from router.calls.authorization import caller
from router.calls.error_mapping import Write, server_stream_rpc, unary_rpc
from router.calls.paging import page_size, parse_page, split_page
from router.flows import flow_urls
from router.flows.admission import no_flow
from router.flows.event_triggers import parse_triggers
from router.flows.flow_table import FlowTable
from router.flows.flow_urls import FlowUrls
from router.flows.parsing import InputParser, ParsedDocument
from router.flows.registry_watch import RegistryWatch
from router.flows.series_keeper import SeriesKeeper
from router.flows.statistics_reader import FlowStatisticsReader
from router.secrets.callback_keys import CallbackKeys
from router.secrets.flow_secrets import check_shared
from router.storage.encryption import SecretCipher
from router.storage.registry import FlowDraft, Registry

# bytes of the body of a test request: some kinds parse it, and the thread that does holds the GIL meanwhile
MAX_SIGNED_BODY: Final = limits.MIB
MAX_SIGNED_HEADERS: Final = 100
MAX_SIGNED_URL: Final = 2048

# headers that the sender's HTTP client sets
_OF_CONNECTION: Final = frozenset(
    {"connection", "content-length", "content-type", "expect", "host", "keep-alive", "te", "trailer"}
    | {"transfer-encoding", "upgrade"}
)

# scheme, host and port at the beginning of a URL
_BASE: Final = re.compile(r"(?i:https?)://(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?=[/?#]|\Z)")
_VALUE: Final = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")

MAX_DOCUMENTS: Final = 1000
# conditions by their values; others are those of newer clients, and left out
CONDITIONS: Final = {enum_to_proto(each, pb.FlowCondition): each for each in FlowCondition}
PERIODS: Final = {enum_to_proto(each, pb.Period): each for each in Period}
DEFAULT_PAGE: Final = 100
_CREDENTIALS: Final = {"header": "header", "query": "query", "basic": "basic_username"}


@attrs.define(eq=False, repr=False, kw_only=True)
class FlowService(flow_service_pb2_grpc.FlowServiceServicer):
    """See protos/flowhook/v1/flow_service.proto."""

    _registry: Registry  # the stored flows
    _flows: FlowTable  # the table of current flows, into which changes are loaded
    _parser: InputParser  # parses flow documents
    _watch: RegistryWatch  # reports changes of the registry
    # returns the functions that attached runners can call, None when no runner is attached
    _functions: Callable[[], Collection[str] | None]
    # which addresses runners may call; flows that name another are applied with a warning
    _address_policy: AddressPolicy
    _callback_keys: CallbackKeys  # keys of the flows' one-time URLs
    _cipher: SecretCipher  # decrypts the secrets that requests are signed with
    _statistics: FlowStatisticsReader  # reads the numbers of flows
    _series: SeriesKeeper  # reads them over time
    _now_ms: Callable[[], int]  # returns the current Unix time in ms
    _urls: FlowUrls = attrs.field(
        init=False, default=attrs.Factory(lambda self: FlowUrls(self._registry), takes_self=True)
    )
    # held from the check of flows against each other until they are stored
    _applying: asyncio.Lock = attrs.field(init=False, factory=asyncio.Lock)

    @unary_rpc
    async def ApplyFlows(self, request: pb.ApplyFlowsRequest) -> pb.ApplyFlowsResponse:
        """Check the documents and apply all of them or none; a dry run only says what would change."""
        if not 0 < len(request.documents) <= MAX_DOCUMENTS:
            raise InvalidError(f"a request must have 1 to {MAX_DOCUMENTS} documents", reason="BATCH_INVALID")
        parsed = await self._parsed(list(request.documents))
        documents = [each.document for each in parsed]
        drafts = [
            FlowDraft(
                document.id,
                source,
                canonical(document.definition),
                document.webhook is not None,
                bool(parse_triggers(document.definition)),
                None if document.webhook is None else document.webhook.own_url,
            )
            for document, source in zip(documents, request.documents, strict=True)
        ]
        async with self._applying:
            await check_shared(documents, self._registry)
            await flow_urls.check(documents, self._registry)
            if request.dry_run:
                applied = [await self._preview(draft) for draft in drafts]
            else:
                applied = await self._registry.apply_flows(drafts, now_ms=self._now_ms())
        if not request.dry_run:
            await self._flows.catch_up()
        return pb.ApplyFlowsResponse(
            flows=[
                pb.AppliedFlow(
                    flow=self._shown(flow),
                    change=enum_to_proto(change, pb.AppliedFlow.Change),
                    warnings=[f"{each.key}: {each.cause}" if each.key else each.cause for each in found],
                    located_warnings=[
                        pb.FlowWarning(line=each.line, key=each.key, message=each.cause, code=each.code)
                        for each in found
                    ],
                )
                for (flow, change), found in zip(applied, await self._warnings(parsed), strict=True)
            ]
        )

    async def _parsed(self, sources: list[bytes]) -> list[ParsedDocument]:
        """Parse documents; faults have the document's index as their file."""
        functions = self._functions()
        documents: list[ParsedDocument] = []
        faults: list[Fault] = []
        seen: dict[str, int] = {}
        for index, source in enumerate(sources):
            try:
                parsed = await self._parser.document(
                    source, file=str(index), functions=functions, address_policy=self._address_policy
                )
            except InvalidFlowError as error:
                faults += error.faults
                continue
            flow_id = parsed.document.id
            earlier = seen.setdefault(flow_id, index)
            if earlier != index:
                cause = f"two documents describe the flow {flow_id}"
                faults.append(Fault(str(index), 0, "document.name", cause, Code.FLOW_DUPLICATE))
            documents.append(parsed)
        if faults:
            raise InvalidFlowError(faults)
        return documents

    @unary_rpc
    async def GetFlow(self, request: pb.GetFlowRequest) -> pb.GetFlowResponse:
        revision = await self._registry.revision()
        flow = await self._registry.get_flow(request.flow_id, revision=request.revision)
        if flow is None and request.revision and await self._registry.get_flow(request.flow_id) is not None:
            raise NotFoundError(
                f"flow {request.flow_id} has no revision {request.revision}", reason="FLOW_REVISION_NOT_FOUND"
            )
        if flow is None:
            raise no_flow(request.flow_id)
        webhook = orjson.loads(flow.definition).get("webhook") or {}
        may_have_key = TokenScope.RUN in caller.get().scopes and webhook.get("callbacks")
        key = self._callback_keys.of(flow.id) if may_have_key else b""
        message = to_proto(flow, pb.Flow) if request.revision else self._shown(flow)
        return pb.GetFlowResponse(flow=message, registry_revision=revision, callback_key=key)

    @unary_rpc
    async def ListRevisions(self, request: pb.ListRevisionsRequest) -> pb.ListRevisionsResponse:
        size, before = parse_page(request.page_size, request.page_token, DEFAULT_PAGE)
        found = await self._registry.list_revisions(request.flow_id, before=before, limit=size + 1)
        if not found and not await self._registry.existing_flows([request.flow_id]):
            raise no_flow(request.flow_id)
        page, token = split_page(found, size, attrgetter("revision"))
        return pb.ListRevisionsResponse(
            revisions=[to_proto(each, pb.FlowRevision) for each in page], next_page_token=token
        )

    @unary_rpc
    async def FindFlows(self, request: pb.FindFlowsRequest) -> pb.FindFlowsResponse:
        flow_ids, urls = request.flow_ids, request.urls
        if not 0 < len(flow_ids) + len(urls) <= limits.MAX_FOUND_FLOWS or any(
            len(flow_id) > limits.MAX_FLOW_ID_LENGTH for flow_id in flow_ids
        ):
            raise InvalidError(
                f"`flow_ids` must be 1 to {limits.MAX_FOUND_FLOWS}, of at most {limits.MAX_FLOW_ID_LENGTH} characters",
                reason="FLOW_IDS_INVALID",
            )
        found = await self._registry.existing_flows(flow_ids) if flow_ids else []
        if not urls:
            return pb.FindFlowsResponse(flow_ids=found)
        of_urls, has_urls = await self._urls.find((url.host, url.path) for url in urls)
        return pb.FindFlowsResponse(flow_ids=found, flow_ids_of_urls=of_urls, has_urls=has_urls)

    @unary_rpc
    async def ListFlows(self, request: pb.ListFlowsRequest) -> pb.ListFlowsResponse:
        size = page_size(request.page_size, DEFAULT_PAGE)
        flows = await self._registry.list_flows(after_id=request.page_token, limit=size + 1)
        page, token = split_page(flows, size, attrgetter("id"))
        return pb.ListFlowsResponse(
            flows=[self._shown(replace(flow, document=b"", definition=b"")) for flow in page], next_page_token=token
        )

    @unary_rpc
    async def GetFlowStatistics(self, request: pb.GetFlowStatisticsRequest) -> pb.GetFlowStatisticsResponse:
        statistics = await self._statistics.get(request.flow_id)
        if statistics is None:
            raise no_flow(request.flow_id)
        return pb.GetFlowStatisticsResponse(
            statistics=to_proto(statistics, pb.FlowStatistics), since=convert.timestamp(self._statistics.since_ms)
        )

    @unary_rpc
    async def GetOverview(self, request: pb.GetOverviewRequest) -> pb.GetOverviewResponse:
        if request.flow_id not in ("", OTHER) and await self._registry.get_flow(request.flow_id) is None:
            raise no_flow(request.flow_id)
        overview = await self._series.overview(request.flow_id, PERIODS.get(request.period, Period.HOUR))
        return pb.GetOverviewResponse(overview=to_proto(overview, pb.Overview))

    @unary_rpc
    async def ListFlowStatistics(self, request: pb.ListFlowStatisticsRequest) -> pb.ListFlowStatisticsResponse:
        page = await self._statistics.page(
            after_id=request.page_token,
            size=page_size(request.page_size, DEFAULT_PAGE),
            name_contains=request.name_contains,
            condition=CONDITIONS.get(request.condition),
        )
        return pb.ListFlowStatisticsResponse(
            statistics=[to_proto(each, pb.FlowStatistics) for each in page.items],
            next_page_token=page.last_id,
            since=convert.timestamp(self._statistics.since_ms),
        )

    @unary_rpc
    async def PauseFlow(self, request: pb.PauseFlowRequest) -> pb.PauseFlowResponse:
        return pb.PauseFlowResponse(flow=await self._set_paused(request.flow_id, paused=True))

    @unary_rpc
    async def ResumeFlow(self, request: pb.ResumeFlowRequest) -> pb.ResumeFlowResponse:
        return pb.ResumeFlowResponse(flow=await self._set_paused(request.flow_id, paused=False))

    @unary_rpc
    async def DeleteFlow(self, request: pb.DeleteFlowRequest) -> pb.DeleteFlowResponse:
        if not await self._registry.delete_flow(request.flow_id):
            raise no_flow(request.flow_id)
        await self._flows.catch_up()
        return pb.DeleteFlowResponse()

    @unary_rpc
    async def SignWebhook(self, request: pb.SignWebhookRequest) -> pb.SignWebhookResponse:
        """Return a request to a flow's URL as its sender would sign it, for tests."""
        flow = await self._registry.get_flow(request.flow_id)
        if flow is None:
            raise no_flow(request.flow_id)
        unsigned = _unsigned_request(request)
        document = load_definition(flow.definition)
        sealed = await self._registry.get_secrets(
            set() if document.webhook is None else document.webhook.secret_names()
        )
        # The admin process holds no secrets, so it gets requests signed here. The answer contains signatures, and
        # nothing from which a secret could be read: a kind of `auth` whose senders send the secret itself (an API key,
        # a password, GitLab's token) is answered with the place where it belongs.
        signed = await asyncio.to_thread(
            sign_webhook,
            document,
            {name: self._cipher.open(name, value) for name, value in sealed.items()},
            unsigned,
            now=self._now_ms() / 1000,
            new_id=request.new_delivery_id,
            with_credentials=False,
            replace_signature=True,
        )
        message = pb.SignWebhookResponse(
            method=signed.method,
            url=signed.url,
            headers=convert.headers_to_proto((name.lower(), value.encode()) for name, value in signed.headers),
            body=signed.body,
            auth_kind=signed.kind,
            secret_name=signed.secret,
        )
        if signed.validity is not None:
            message.validity.CopyFrom(convert.duration(signed.validity))
        if signed.credential is not None:
            setattr(message.credential, _CREDENTIALS[signed.credential.kind], signed.credential.name)
        return message

    @server_stream_rpc
    async def WatchFlows(self, request: pb.WatchFlowsRequest, write: Write) -> None:
        async with aclosing(self._watch.follow(request.start_revision, limits.WATCH_PROGRESS_SECONDS)) as batches:
            async for revision, changes in batches:
                for number, flow_id, secret in changes:
                    await write(
                        pb.WatchFlowsResponse(revision=number, flow_id=flow_id or None, secret_name=secret or None)
                    )
                if not changes:
                    await write(pb.WatchFlowsResponse(revision=revision, progress=pb.Progress()))

    def _shown(self, flow: Flow) -> pb.Flow:
        return to_proto(replace(flow, next_time_ms=self._statistics.next_of(flow.id)), pb.Flow)

    async def _set_paused(self, flow_id: str, *, paused: bool) -> pb.Flow:
        flow = await self._registry.set_paused(flow_id, paused=paused)
        if flow is None:
            raise no_flow(flow_id)
        await self._flows.catch_up()
        return self._shown(flow)

    async def _preview(self, draft: FlowDraft) -> tuple[Flow, Change]:
        """Return the flow and the change that applying a draft would produce."""
        stored = await self._registry.get_flow(draft.id)
        now_ms, applied = self._now_ms(), (draft.document, draft.definition)
        if stored is None:
            return Flow(draft.id, *applied, 1, False, draft.has_webhook, now_ms, now_ms), Change.CREATED
        if (stored.document, stored.definition) == applied:
            return stored, Change.UNCHANGED
        revision, created_ms = stored.revision + 1, stored.create_time_ms
        flow = Flow(draft.id, *applied, revision, stored.paused, draft.has_webhook, created_ms, now_ms)
        return flow, Change.UPDATED

    async def _warnings(self, parsed: Sequence[ParsedDocument]) -> list[list[Fault]]:
        """Return the warnings about each document; about secrets that it names and that are not set last."""
        named = [names_of(each.document) for each in parsed]
        there = set(await self._registry.get_secrets(frozenset().union(*named)))
        return [
            [*each.warnings, *(unset_warning(name, each.secret_lines.get(name, 0)) for name in sorted(names - there))]
            for each, names in zip(parsed, named, strict=True)
        ]


def unset_warning(name: str, line: int) -> Fault:
    return Fault("", line, "", f"secret {name} is not set yet: flowhook secrets set {name}", Code.SECRET_NOT_SET)


def _unsigned_request(request: pb.SignWebhookRequest) -> WebhookRequest:
    """Return the request as far as it is given, once it is checked."""
    base = _BASE.match(request.base_url) if len(request.base_url) <= MAX_SIGNED_URL else None
    if base is None:
        raise InvalidError("`base_url` must be a URL such as https://hooks.example.com", reason="URL_INVALID")
    if len(request.body) > MAX_SIGNED_BODY:
        raise InvalidError("the body of a test request has at most 1 MiB", reason="BODY_TOO_LARGE")
    if len(request.headers) > MAX_SIGNED_HEADERS:
        raise InvalidError(f"a test request has at most {MAX_SIGNED_HEADERS} headers", reason="HEADER_INVALID")
    headers = [(header.name, header.value.decode("utf-8", "replace")) for header in request.headers]
    for name, value in (*headers, ("content-type", request.content_type)):
        if not TOKEN.fullmatch(name) or not _VALUE.fullmatch(value) or len(value) > limits.MAX_HEADER_BYTES:
            raise InvalidError(
                f"header {name[:100]!r} has a name or a value that can't be sent", reason="HEADER_INVALID"
            )
    for name, _ in headers:
        if name.lower() in _OF_CONNECTION:
            raise InvalidError(f"header {name} can't be chosen", reason="HEADER_INVALID")
    return WebhookRequest(base[0], request.method, request.content_type, headers, request.body)
