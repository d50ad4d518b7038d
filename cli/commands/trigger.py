"""`flowhook trigger`: sends a sample event of a provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from cli.commands.send import Edge, EdgeCaFile, Wait, deliver, edge_route, show_end
from cli.options import DataDir, Json, Router, split_pair
from flowhook.errors import InvalidError, NotFoundError

if TYPE_CHECKING:
    from flowhook.client import Client
    from flowhook.providers.sample_files import Sample


def sample_names() -> list[str]:
    from flowhook.providers.sample_files import all_samples

    return [sample.name for sample in all_samples()]


def command(
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
