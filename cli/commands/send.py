"""`flowhook send`: acts as the sender of a webhook."""

from __future__ import annotations

import http.client
import ssl
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple
from urllib.parse import urlsplit

import typer

from cli.options import DataDir, Json, Router
from flowhook.errors import InvalidError, PermissionDeniedError, UnavailableError
from flowhook.model import Status

if TYPE_CHECKING:
    from cli.delivery import Delivery
    from flowhook.client import Client
    from flowhook.document import FlowDocument
    from flowhook.sender import SignedWebhook, WebhookRequest

TIMEOUT: Final = 90.0  # seconds to wait for the response; a flow may hold a request for a while
DEFAULT_EDGE: Final = "http://127.0.0.1:8080"
FIRST_REFUSAL: Final = 400


class EdgeResponse(NamedTuple):
    """The HTTP response."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("send")(_send)


def _send(
    *,
    flow_id: Annotated[str, typer.Argument(metavar="FLOW", help="ID of the flow.")],
    data: Annotated[str | None, typer.Option("--data", metavar="TEXT_OR_@FILE", help="The body; @- is stdin.")] = None,
    content_type: Annotated[str, typer.Option("--content-type", help="Media type of the body.")] = "application/json",
    header: Annotated[
        list[str] | None, typer.Option("--header", metavar="K:V", help="A header; may be given several times.")
    ] = None,
    edge: Annotated[
        str | None,
        typer.Option("--edge", metavar="URL", help="URL of the edge (FLOWHOOK_EDGE).", envvar="FLOWHOOK_EDGE"),
    ] = None,
    edge_ca_file: Annotated[
        Path | None,
        typer.Option(
            "--edge-ca-file",
            metavar="FILE",
            help="PEM certificates of the authorities of the edge's certificate (FLOWHOOK_EDGE_CA_FILE).",
            envvar="FLOWHOOK_EDGE_CA_FILE",
        ),
    ] = None,
    new_id: Annotated[
        bool, typer.Option("--new-id", help="Use a new delivery ID, so that it does not count as a repeated delivery.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the execution has ended, and print its result.")
    ] = False,
    json: Json = False,
    router: Router = None,
    data_dir: DataDir = None,
) -> None:
    """Send a webhook to a flow, signed as the flow's auth requires, and print the response."""
    from cli.client_factory import client_for, client_settings
    from cli.delivery import Delivery
    from cli.outcome import show_outcome
    from cli.supervisor.rundir import read_cluster
    from flowhook.document import load_definition
    from flowhook.sender import WebhookRequest

    headers = [_header(text) for text in header or ()]
    body = _body(data)
    settings = client_settings(router, data_dir)
    cluster = read_cluster(settings.data_dir)
    base = edge or (cluster.http_url if cluster is not None else DEFAULT_EDGE)
    own = cluster.http_cert_file if edge is None and cluster is not None else ""
    trusted = _trusted(edge_ca_file, own) if base.startswith("https:") else None
    with client_for(settings) as client:
        document = load_definition(client.flows.get(flow_id).definition)
        delivery = Delivery(client, document)
        unsigned = WebhookRequest(base, "", content_type, delivery.with_trace(headers), body)
        request = _signed(client, document, unsigned, new_id=new_id)
        response = _exchange(request, trusted)
        if response.status < FIRST_REFUSAL:
            delivery.answered(response.body)
        _show(response, delivery, json=json)
        if response.status >= FIRST_REFUSAL:
            raise typer.Exit(1)
        if wait:
            detail = delivery.outcome()
            show_outcome(detail, json=json)
            if detail.execution.status is not Status.COMPLETED:
                raise typer.Exit(1)


def _signed(client: Client, document: FlowDocument, request: WebhookRequest, *, new_id: bool) -> SignedWebhook:
    """Return the request, signed as required by the first kind of auth whose secret is set."""
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
    """Return the SSL context for the edge; `own_file`: certificate of the edge on this machine, or empty."""
    from flowhook.process import tls_context

    return (
        tls_context.context_for_certificate(Path(own_file))
        if own_file and ca_file is None
        else tls_context.context_for_authorities(ca_file)
    )


def _exchange(request: SignedWebhook, trusted: ssl.SSLContext | None) -> EdgeResponse:
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
        return EdgeResponse(answer.status, answer.reason, answer.getheaders(), answer.read())
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


def _show(response: EdgeResponse, delivery: Delivery, *, json: bool) -> None:
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


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise typer.BadParameter("--header takes NAME:VALUE")
    return name.strip(), value.strip()


def _body(data: str | None) -> bytes:
    if data is None:
        return b""
    if not data.startswith("@"):
        return data.encode()
    if data == "@-":
        return sys.stdin.buffer.read()
    try:
        return Path(data[1:]).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"--data {data}: {error.strerror}") from None
