"""`flowhook exec`: runs one flow document here, with no cluster and no storage."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.options import Json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("exec")(_exec)


def _exec(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The flow file.")],
    input_: Annotated[
        str | None, typer.Option("--input", metavar="JSON_OR_@FILE", help="Body of the event; @- is stdin.")
    ] = None,
    allow_private_addresses: Annotated[
        bool, typer.Option("--allow-private-addresses", help="Let it call private, loopback and link-local addresses.")
    ] = False,
    json: Json = False,
) -> None:
    """Run one flow here, with no cluster: its output goes to stdout, a fault as JSON to stderr."""
    import orjson
    from runner.local import run_document

    from cli import flow_files
    from cli.output import print_json

    body = _body(input_)
    if file.is_dir():
        raise typer.BadParameter(f"{file} is a directory; exec runs one file")
    document = flow_files.read([file])[0].document
    result = asyncio.run(run_document(document, body, allow_private_addresses=allow_private_addresses))
    if result.error is not None:
        sys.stderr.buffer.write(orjson.dumps(result.error.as_dict()) + b"\n")
        raise typer.Exit(1)
    output: Any = orjson.loads(result.output) if result.output else None
    if json:
        print_json(output)
    else:
        print(orjson.dumps(output, option=orjson.OPT_INDENT_2).decode())


def _body(text: str | None) -> bytes:
    import orjson

    if text is None:
        return b"{}"
    if text == "@-":
        content = sys.stdin.buffer.read()
    elif text.startswith("@"):
        try:
            content = Path(text[1:]).read_bytes()
        except OSError as error:
            raise typer.BadParameter(f"--input {text}: {error.strerror}") from None
    else:
        content = text.encode()
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise typer.BadParameter(f"--input is not JSON: {error}") from None
    return content
