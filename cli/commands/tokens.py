"""`flowhook tokens`: bearer tokens of the gRPC services, kept in the router's data directory."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import DataDir, Json, read_settings
from flowhook.config import CommonSettings
from flowhook.tokens import Scope, create_token, list_tokens, revoke_token

app = typer.Typer(
    help="Create, list and revoke the bearer tokens of internal services, in the router's data directory.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the token.")]


@app.command("create")
def _create(
    *,
    name: Name,
    scope: Annotated[list[Scope], typer.Option("--scope", help="What it permits; may be given several times.")],
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Create a token and print it; it can't be printed again."""
    from cli.output import print_json

    token = create_token(_settings(data_dir).data_dir, name, scope)
    if json:
        print_json({"name": name, "scopes": sorted(scope), "token": token})
    else:
        print(token)


@app.command("list")
def _list(*, json: Json = False, data_dir: DataDir = None) -> None:
    """List tokens by name, with their scopes."""
    from cli.output import print_json, print_table

    infos = list_tokens(_settings(data_dir).data_dir)
    if json:
        for info in infos:
            print_json({"name": info.name, "scopes": sorted(info.scopes)})
        return
    print_table(("TOKEN", "SCOPES"), ((info.name, ", ".join(sorted(info.scopes))) for info in infos), empty="no tokens")


@app.command("revoke")
def _revoke(*, name: Name, data_dir: DataDir = None) -> None:
    """Revoke a token: the router refuses it from the next call on."""
    revoke_token(_settings(data_dir).data_dir, name)
    print(f"{name}: revoked")


def _settings(data_dir: DataDir) -> CommonSettings:
    return read_settings(CommonSettings, {"data_dir": data_dir})
