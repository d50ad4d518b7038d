"""`flowhook send`, `trigger`: acts as the sender of a webhook, with data of one's own or a sample of a provider."""

from __future__ import annotations

import http.client
import re
import secrets
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple
from urllib.parse import urlsplit

import typer
from typer import Argument, Option

from cli.options import DataDir, Json, Router, read_content, split_pair
from flowhook.errors import InvalidError, NotFoundError, PermissionDeniedError, UnavailableError
from flowhook.events import ids
from flowhook.json import object_of
from flowhook.model import Status

if TYPE_CHECKING:
    from flowhook.client import Client
    from flowhook.document.loader import FlowDocument
    from flowhook.model import Execution
    from flowhook.process.settings import CommonSettings
    from flowhook.providers.sample_files import Sample
    from flowhook.sender import SignedWebhook, WebhookRequest

TIMEOUT: Final = 90.0  # seconds to wait for the response; a flow may hold a request for a while
DEFAULT_EDGE: Final = "http://127.0.0.1:8080"
FIRST_REFUSAL: Final = 400
RECENT: Final = 20  # number of latest executions that are searched when a response does not contain the execution's ID
_ID: Final = re.compile(r"evt_[0-9a-z]{26}")


class _Response(NamedTuple):
    """The HTTP response."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes


Edge = Annotated[str | None, Option(metavar="URL", help="URL of the edge (FLOWHOOK_EDGE).", envvar="FLOWHOOK_EDGE")]
EdgeCaFile = Annotated[
    Path | None,
    Option(
        metavar="FILE",
        help="PEM certificates of the authorities of the edge's certificate (FLOWHOOK_EDGE_CA_FILE).",
        envvar="FLOWHOOK_EDGE_CA_FILE",
    ),
]
Wait = Annotated[bool, Option("--wait", help="Wait until the execution has ended, and print its result.")]


def send(
    *,
    flow_id: Annotated[str, Argument(metavar="FLOW", help="ID of the flow.")],
    data: Annotated[str | None, Option(metavar="TEXT_OR_@FILE", help="The body; @- is stdin.")] = None,
    content_type: Annotated[str, Option(help="Media type of the body.")] = "application/json",
    header: Annotated[list[str] | None, Option(metavar="K:V", help="A header; may be given several times.")] = None,
    edge: Edge = None,
    edge_ca_file: EdgeCaFile = None,
    new_id: Annotated[
        bool, Option("--new-id", help="Use a new delivery ID, so that it does not count as a repeated delivery.")
    ] = False,
    wait: Wait = False,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Send a webhook to a flow, signed as the flow's auth requires, and print the response."""
    from cli.client_factory import client_for, client_settings

    headers = [split_pair("--header", text, ":") for text in header or ()]
    body = b"" if data is None else read_content("--data", data)
    settings = client_settings(router, data_dir)
    route = edge_route(settings, edge, edge_ca_file)
    with client_for(settings) as client:
        deliver(client, flow_id, (headers, content_type, body), route, new_id=new_id, wait=wait, json=json)


class Route(NamedTuple):
    """How an edge is reached."""

    base: str  # URL
    signed: str  # URL that senders use instead, which signatures may cover
    trusted: ssl.SSLContext | None  # None: without TLS


def edge_route(settings: CommonSettings, edge: str | None, edge_ca_file: Path | None) -> Route:
    """Return the route to the edge that is named, else to that of the cluster on the data directory."""
    from cli.supervisor.rundir import read_cluster

    cluster = read_cluster(settings.data_dir)
    base = edge or (cluster.http_url if cluster is not None else DEFAULT_EDGE)
    own, signed = ("", base) if edge or cluster is None else (cluster.http_cert_file, cluster.public_url or base)
    return Route(base, signed, _trusted(edge_ca_file, own) if base.startswith("https:") else None)


def deliver(
    client: Client,
    flow_id: str,
    content: tuple[list[tuple[str, str]], str, bytes],
    route: Route,
    *,
    new_id: bool,
    wait: bool,
    json: bool,
) -> None:
    """Send headers, content type and body to a flow, signed as it requires, and print what comes of it.

    Raises:
        typer.Exit: the edge refuses it, or (`wait`) the execution has not completed.
    """
    from flowhook.document.loader import load_definition
    from flowhook.sender import WebhookRequest

    headers, content_type, body = content
    document = load_definition(client.flows.get(flow_id).definition)
    delivery = SentDelivery(client, document)
    unsigned = WebhookRequest(route.signed, "", content_type, delivery.with_trace(headers), body)
    request = _signed(client, document, unsigned, new_id=new_id)
    response = _exchange(request._replace(url=request.url.replace(route.signed, route.base, 1)), route.trusted)
    if response.status < FIRST_REFUSAL:
        delivery.answered(response.body)
    _show(response, delivery, json=json)
    if response.status >= FIRST_REFUSAL:
        raise typer.Exit(1)
    if wait:
        if not delivery.execution_id:
            raise NotFoundError("which execution this delivery came to is not known, for the answer does not say")
        show_end(client, delivery.execution_id, json=json)


def show_end(client: Client, execution_id: str, *, json: bool) -> None:
    """Wait for the end of an execution, or of the one that runs for its batch, and print it.

    Raises:
        typer.Exit: it has not completed.
    """
    from cli.execution_tables import show_outcome, wait_until_ended

    detail = wait_until_ended(client, execution_id)
    if detail.execution.batch and not detail.execution.attempts:  # it ended without running
        detail = wait_until_ended(client, detail.execution.batch)
    show_outcome(detail, json=json)
    if detail.execution.status is not Status.COMPLETED:
        raise typer.Exit(1)


def _signed(client: Client, document: FlowDocument, request: WebhookRequest, *, new_id: bool) -> SignedWebhook:
    from flowhook.sender import sign_webhook

    names = set() if document.webhook is None else document.webhook.secret_names()
    try:
        secrets = client.secrets.resolve(sorted(names), flow_id=document.id) if names else {}
    except PermissionDeniedError:
        return _signed_by_router(client, document.id, request, new_id=new_id)
    return sign_webhook(document, secrets, request, now=time.time(), new_id=new_id)


def _signed_by_router(client: Client, flow_id: str, request: WebhookRequest, *, new_id: bool) -> SignedWebhook:
    """Return the same, with a token that may not read secrets."""
    from flowhook.sender import SignedWebhook

    signed = client.flows.sign_webhook(
        flow_id,
        request.base,
        request.body,
        content_type=request.content_type,
        headers=request.headers,
        new_delivery_id=new_id,
    )
    if signed.credential is not None:
        raise InvalidError(
            f"{signed.auth_kind} sends the secret {signed.secret_name} itself, which this token may not read",
            reason="CREDENTIAL_NOT_SHARED",
        )
    headers = [(name, value.decode("utf-8", "replace")) for name, value in signed.headers]
    return SignedWebhook(signed.method, signed.url, headers, signed.body)


def _trusted(ca_file: Path | None, own_file: str) -> ssl.SSLContext:
    from flowhook.process import tls_context

    if own_file and ca_file is None:
        return tls_context.context_for_certificate(Path(own_file))
    return tls_context.context_for_authorities(ca_file)


def _exchange(request: SignedWebhook, trusted: ssl.SSLContext | None) -> _Response:
    target = urlsplit(request.url)
    if target.scheme not in ("http", "https") or not target.hostname:
        raise typer.BadParameter("--edge takes a URL such as http://127.0.0.1:8080")
    if target.scheme == "http":
        connection = http.client.HTTPConnection(target.hostname, target.port, timeout=TIMEOUT)
    else:
        connection = http.client.HTTPSConnection(target.hostname, target.port, timeout=TIMEOUT, context=trusted)
    try:
        path = target.path + (f"?{target.query}" if target.query else "")
        connection.putrequest(request.method, path, skip_accept_encoding=True)
        for name, value in request.headers:
            connection.putheader(name, value)
        if request.body or request.method not in ("GET", "DELETE"):
            connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(request.body or None)
        answer = connection.getresponse()
        return _Response(answer.status, answer.reason, answer.getheaders(), answer.read())
    except ssl.SSLCertVerificationError as error:
        raise UnavailableError(
            f"{target.netloc} shows a certificate that is not trusted: {error.verify_message}; "
            "--edge-ca-file names those that are"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnavailableError(f"no answer from {target.scheme}://{target.netloc}: {cause}") from None
    finally:
        connection.close()


def _show(response: _Response, delivery: SentDelivery, *, json: bool) -> None:
    from cli.output import print_json

    if json:
        text = response.body.decode("utf-8", "replace")
        shown = {"status": response.status, "headers": dict(response.headers), "body": text}
        print_json({**shown, "execution": delivery.execution_id or None, "duplicate": delivery.duplicate})
        return
    print(f"{response.status} {response.reason}", flush=True)
    sys.stdout.buffer.write(response.body)
    if response.body and not response.body.endswith(b"\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()
    if delivery.duplicate:
        print(
            "flowhook: a repeated delivery, which started nothing and got the response of the first one; "
            "use --new-id for a new delivery",
            file=sys.stderr,
        )


class SentDelivery:
    """One delivery to a flow, and its execution as far as it is known."""

    def __init__(self, client: Client, document: FlowDocument) -> None:
        """Record the newest execution. Create this before the request is sent, to detect repeated deliveries."""
        self._client = client
        self._flow = document.id
        self._trace = secrets.token_hex(16)
        respond = None if document.webhook is None else document.webhook.respond
        self._unnamed = respond is None or respond.mode == "reply" or not _names_it(respond.body)
        self._filters = document.webhook is not None and document.webhook.accept is not None
        self.execution_id = ""  # empty: unknown
        self.duplicate: bool | None = (
            None  # whether it is a repeated delivery, which starts no execution; None: unknown
        )
        self._newest: str | None = None
        with suppress(PermissionDeniedError):
            self._newest = next((each.id for each in client.executions.list(flow_id=self._flow, limit=1)), "")

    def with_trace(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Add a `traceparent`, by which the execution is found if the response will not contain its ID."""
        if not self._unnamed or self._newest is None or any(name.lower() == "traceparent" for name, _ in headers):
            return headers
        return [*headers, ("traceparent", f"00-{self._trace}-{secrets.token_hex(8)}-01")]

    def answered(self, body: bytes) -> None:
        """Determine the execution of the delivery from the body of a response that is no refusal."""
        named = _named(body)
        if named and not self._unnamed:
            self.execution_id = named
            if self._newest is not None:
                self.duplicate = self._is_old(named)
        elif self._newest is not None:
            self.execution_id = self._search()
            if self.execution_id or not self._filters:  # else the filter may not have wanted it
                self.duplicate = not self.execution_id

    def _is_old(self, execution_id: str) -> bool:
        if not self._newest or ids.time_ms_of(execution_id) > ids.time_ms_of(self._newest):
            return False
        return all(each.id != execution_id for each in self._newer())

    def _search(self) -> str:
        executions = self._client.executions
        for each in self._newer():
            if self._trace in executions.get(each.id, max_body_bytes=0).event.traceparent:
                return each.id
        return ""

    def _newer(self) -> Iterator[Execution]:
        for execution in self._client.executions.list(flow_id=self._flow, limit=RECENT):
            if execution.id == self._newest:
                return
            yield execution


def _names_it(body: Any) -> bool:
    from flowhook.expressions.syntax import strip_markers

    text = body.get("id") if isinstance(body, dict) else None
    return isinstance(text, str) and strip_markers(text).strip() == ".id"


def _named(body: bytes) -> str:
    found = (object_of(body) or {}).get("id")
    return found if isinstance(found, str) and _ID.fullmatch(found) else ""


def sample_names() -> list[str]:
    from flowhook.providers.sample_files import all_samples

    return [sample.name for sample in all_samples()]


def trigger(
    *,
    event: Annotated[
        str,
        Argument(metavar="PROVIDER/EVENT", help="Name of the sample; or a provider.", autocompletion=sample_names),
    ],
    changes: Annotated[
        list[str] | None,
        Option("--set", metavar="PATH=VALUE", help="Change a value of its body; may be given several times."),
    ] = None,
    flow: Annotated[
        str, Option(metavar="ID", help="The flow to send it to; default: the one with this provider's auth.")
    ] = "",
    grpc: Annotated[
        bool, Option("--grpc", help="Send it over gRPC, unsigned: for providers whose signature only they can make.")
    ] = False,
    edge: Edge = None,
    edge_ca_file: EdgeCaFile = None,
    wait: Wait = False,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Send a provider's sample event to a flow, signed as the flow's auth requires, and print the response."""
    from cli.client_factory import client_for, client_settings
    from cli.output import print_json

    sample = find_sample(event)
    body = sample.body.encode()
    for text in changes or ():
        body = with_value(sample.content_type, body, *split_pair("--set", text, "="))
    settings = client_settings(router, data_dir)
    with client_for(settings) as client:
        flow_id = flow or _flow_of(client, sample.provider)
        headers = list(sample.headers)
        if not grpc:
            route = edge_route(settings, edge, edge_ca_file)
            try:
                deliver(client, flow_id, (headers, sample.content_type, body), route, new_id=True, wait=wait, json=json)
            except InvalidError as error:
                if error.reason not in ("CANNOT_SIGN", "CREDENTIAL_NOT_SHARED"):
                    raise
                raise InvalidError(f"{error.message}; --grpc sends it unsigned", reason=error.reason) from None
            return
        execution_id = client.ingest(flow_id, body, sample.content_type, headers)
        print_json({"execution": execution_id}) if json else print(execution_id)
        if wait:
            show_end(client, execution_id, json=json)


def find_sample(name: str) -> Sample:
    """Return a sample by its name, or the only one of a provider; NotFoundError lists those that there are."""
    from flowhook.providers.sample_files import all_samples

    provider = name.partition("/")[0]
    of_provider = [sample for sample in all_samples() if sample.provider == provider]
    found = [sample for sample in of_provider if name in (sample.name, provider)]
    if len(found) != 1:
        names = ", ".join(sample.name for sample in of_provider or all_samples())
        raise NotFoundError(f"there is no sample {name[:100]}: choose one of {names}", reason="SAMPLE_NOT_FOUND")
    return found[0]


def with_value(content_type: str, body: bytes, path: str, text: str) -> bytes:
    """Return a body, in JSON or a form, with another value: what `text` is as JSON, else the text itself."""
    from urllib.parse import parse_qsl, urlencode

    from flowhook.expressions.paths import paths_in
    from flowhook.expressions.syntax import InvalidExpression
    from flowhook.json import verbatim

    try:
        steps = paths_in(path)[0] if path.startswith(".") else ()
    except InvalidExpression:
        steps = ()
    if not steps:
        raise typer.BadParameter(f"--set {path}: write a path and a value, such as .data.object.amount=500")
    if content_type == "application/x-www-form-urlencoded":
        fields = dict(parse_qsl(body.decode(), keep_blank_values=True))
        return urlencode({**fields, ".".join(map(str, steps)): text}).encode()
    try:
        value = verbatim.loads(text.encode())
    except ValueError:
        value = text
    content = verbatim.loads(body)
    inner: Any = content
    for step, following in zip(steps, (*steps[1:], None), strict=True):
        known = (
            isinstance(inner, dict)
            if isinstance(step, str)
            else isinstance(inner, list) and -len(inner) <= step < len(inner)
        )
        if not known:
            raise typer.BadParameter(f"--set {path}: the sample's body has nothing at {step}")
        if following is None:
            inner[step] = value
        elif isinstance(step, str):
            inner = inner.setdefault(step, {})
        else:
            inner = inner[step]
    return verbatim.dumps(content)


def _flow_of(client: Client, provider: str) -> str:
    """Return the ID of the only flow whose `auth` names a provider."""
    from flowhook.document.loader import load_definition

    found = []
    for flow in client.flows.list():
        if flow.has_webhook:
            webhook = load_definition(client.flows.get(flow.id).definition).webhook
            if webhook is not None and any(kind.kind == provider for kind in webhook.auth):
                found.append(flow.id)
    if not found:
        raise NotFoundError(
            f"no flow has the auth {provider}: `flowhook new NAME --provider {provider}` writes one; --flow names any",
            reason="FLOW_NOT_FOUND",
        )
    if len(found) > 1:
        raise InvalidError(
            f"{', '.join(found)} have the auth {provider}: choose one with --flow", reason="FLOW_AMBIGUOUS"
        )
    return found[0]
