"""`flowhook verify`: checks the signature of a request in a file, and explains a mismatch."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit

import typer
from typer import Argument, Option

from cli.options import Json, read_file

if TYPE_CHECKING:
    from flowhook.signatures.types import RequestView

NAME: Final = "secret"  # name of the secret in this command
_START: Final = re.compile(rb"([A-Z]+) (\S+)(?: HTTP/[0-9.]+)?")


def command(
    *,
    request_file: Annotated[
        Path, Argument(metavar="REQUEST_FILE", help="The request as sent: request line, headers, body.")
    ],
    provider: Annotated[str, Option(metavar="P", help="Kind of auth, such as github.")] = "",
    secret_file: Annotated[Path | None, Option(metavar="F", help="File with the secret.", show_default=False)] = None,
    auth: Annotated[str, Option(metavar="YAML", help="Instead of --provider: `auth` as in a flow file.")] = "",
    url: Annotated[str, Option(metavar="URL", help="URL that the sender called, if it is signed.")] = "",
    at: Annotated[
        float | None, Option(metavar="SECONDS", help="Unix time of the request; default: now.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Check the signature of a request in a file, with no cluster."""
    from cli.output import print_json
    from flowhook.signatures.build import build_verifiers
    from flowhook.signatures.diagnosis import SecretVariants, diagnose
    from flowhook.signatures.types import SignatureError, verify_any

    kinds = _kinds(provider, auth)
    content = read_file(secret_file) if secret_file is not None else b""
    value = content.removesuffix(b"\n").removesuffix(b"\r")
    secrets = {name: value for kind in kinds for name in kind.secret_names if value}
    verifiers = build_verifiers(kinds, secrets)
    request = parse_request(read_file(request_file), url)
    now = time.time() if at is None else at
    try:
        match = verify_any(verifiers, request, now)
    except SignatureError as error:
        hint = diagnose(verifiers, request, now, readings=SecretVariants(kinds, secrets))
        found: dict[str, Any] = {"valid": False, "reason": error.reason, "detail": error.detail, "hint": hint or None}
    else:
        deliveries = (each.delivery_id(request) for each in verifiers)
        delivery = next((found for found in deliveries if found is not None), None)
        found = {"valid": True, "scheme": match.scheme, "delivery_id": delivery}
    if json:
        print_json(found)
    elif found["valid"]:
        print(f"valid: {found['scheme']}" + (f", delivery {found['delivery_id']}" if found["delivery_id"] else ""))
    else:
        print(f"not valid: {found['reason']}: {found['detail']}" + (f"\n{found['hint']}" if found["hint"] else ""))
    if not found["valid"]:
        raise typer.Exit(1)


def parse_request(content: bytes, url: str) -> RequestView:
    """Parse the content of a request file: request line, headers, an empty line, body; lines may end with LF alone.

    `url`: URL that the sender called; empty: the absolute URL of the request line or, if that is a path, one built from
    it and Host.
    """
    from flowhook import limits
    from flowhook.signatures.types import JsonBody, RequestView

    blank = re.search(rb"\r?\n\r?\n", content)
    head, body = (content, b"") if blank is None else (content[: blank.start()], content[blank.end() :])
    lines = re.split(rb"\r?\n", head)
    start = _START.fullmatch(lines[0].strip())
    if start is None or blank is None:
        raise typer.BadParameter(
            "REQUEST_FILE begins with a request line such as POST /hook/x HTTP/1.1, and has an empty line"
        )
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon:
            raise typer.BadParameter(f"REQUEST_FILE: a header without a colon: {line[:40].decode('latin-1')!r}")
        headers.append((name.strip().decode("latin-1").lower(), value.strip()))
    target = start[2].decode("latin-1")
    host = next((value.decode("latin-1") for name, value in headers if name == "host"), "localhost")
    full = url or (target if "://" in target else f"https://{host}{target}")
    parts = urlsplit(full)
    known = JsonBody(limits.MAX_BODY_BYTES)
    return RequestView(start[1].decode(), full, parts.path or "/", parts.query, headers, body, json=known)


def _kinds(provider: str, auth: str) -> Any:
    from pydantic import ValidationError
    from pydantic_core import PydanticCustomError
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from flowhook.document.models.auth import parse_auth

    if bool(provider) == bool(auth):
        raise typer.BadParameter("give --provider, or --auth")
    try:
        value = YAML(typ="safe", pure=True).load(auth) if auth else {provider: {NAME: NAME}}
        return parse_auth(value)
    except ValidationError as error:
        raise typer.BadParameter("; ".join(detail["msg"] for detail in error.errors(include_url=False))) from None
    except (PydanticCustomError, YAMLError) as error:
        raise typer.BadParameter(str(error)) from None
