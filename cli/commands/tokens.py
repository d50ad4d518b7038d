"""`flowhook tokens`: manages the bearer tokens of the gRPC services, stored in the router's data directory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from cli.options import DataDir, Json, read_settings
from flowhook.process.settings import CommonSettings
from flowhook.security.tokens import (
    TokenInfo,
    TokenScope,
    create_token,
    last_uses,
    list_tokens,
    revoke_token,
    rotate_token,
)

app = typer.Typer(
    help="Create, list, rotate and revoke the bearer tokens of internal services, in the router's data directory.",
    no_args_is_help=True,
)
Name = Annotated[str, Argument(metavar="NAME", help="Name of the token.")]
ExpiresIn = Annotated[
    str | None, Option("--expires-in", metavar="DURATION", help="Time after which it expires, such as P90D.")
]


@app.command("create")
def _create(
    *,
    name: Name,
    scope: Annotated[list[TokenScope], Option(help="Scope of the token; may be given several times.")],
    flow: Annotated[
        list[str] | None, Option(metavar="FLOW", help="Limit it to events of this flow; may be given several times.")
    ] = None,
    expires_in: ExpiresIn = None,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Create a token and print it; it can't be printed again."""
    from cli.output import print_result

    token = create_token(_directory(data_dir), name, scope, flows=flow or (), expires_in=_seconds(expires_in))
    print_result({"name": name, "scopes": sorted(scope), "token": token}, token, json=json)


@app.command("list")
def _list(*, json: Json = False, data_dir: DataDir = None) -> None:
    """List tokens by name: their scopes, and when they were created, last used, and expire."""
    from cli.operation_commands import print_items

    directory = _directory(data_dir)
    uses = last_uses(directory)
    described = (_describe(info, uses) for info in list_tokens(directory))
    columns = ("TOKEN", "SCOPES", "FLOWS", "CREATED", "LAST USED", "EXPIRES")
    print_items(described, columns, _row, empty="no tokens", json=json)


@app.command("rotate")
def _rotate(
    *,
    name: Name,
    overlap: Annotated[
        str, Option(metavar="DURATION", help="Time for which the earlier value stays valid; PT0S: none.")
    ] = "PT1H",
    expires_in: ExpiresIn = None,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Give a token a new value and print that; it can't be printed again. The earlier one stays valid for a while."""
    from cli.output import print_result

    token = rotate_token(_directory(data_dir), name, overlap=_seconds(overlap) or 0, expires_in=_seconds(expires_in))
    print_result({"name": name, "token": token}, token, json=json)


@app.command("revoke")
def _revoke(*, name: Name, data_dir: DataDir = None) -> None:
    """Revoke a token: the router refuses it from the next call on, and the values it had before."""
    revoke_token(_directory(data_dir), name)
    print(f"{name}: revoked")


def _row(token: Mapping[str, Any]) -> tuple[str, ...]:
    scopes, flows = (", ".join(token[name]) for name in ("scopes", "flows"))
    used, expires = (_shown(token[name], "never") for name in ("last_used_at", "expires_at"))
    return token["name"], scopes, flows or "any", _shown(token["created_at"], "unknown"), used, expires


def _describe(info: TokenInfo, uses: Mapping[str, int]) -> dict[str, Any]:
    return {
        "name": info.name,
        "scopes": sorted(info.scopes),
        "flows": sorted(info.flows),
        "created_at": _time(info.created),
        "last_used_at": _time(uses.get(info.sha256)),
        "expires_at": _time(info.expires),
        "earlier": [
            {"expires_at": _time(value.until), "last_used_at": _time(uses.get(value.sha256))}
            for value in info.earlier
            if value.until > time.time()
        ],
    }


def _time(seconds: int | None) -> str | None:
    from operations.encoding import rfc3339

    return None if seconds is None else rfc3339(datetime.fromtimestamp(seconds, UTC))


def _shown(moment: str | None, otherwise: str) -> str:
    return otherwise if moment is None else f"{moment[:10]} {moment[11:16]}"


def _seconds(duration: str | None) -> float | None:
    from flowhook.document.quantities import parse_duration

    return None if duration is None else parse_duration(duration)


def _directory(data_dir: Path | None) -> Path:
    return read_settings(CommonSettings, {"data_dir": data_dir}).data_dir
