"""`flowhook components`: lists and describes the functions that a `call` may name."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument

from cli.options import Json
from flowhook.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.components.catalogue import ComponentDescription

app = typer.Typer(help="Look at components: the functions that a call may name.", no_args_is_help=True)


@app.command("list")
def _list(*, json: Json = False) -> None:
    """List the components that are installed here."""
    from cli.operation_commands import print_items

    row = operator.itemgetter("name", "package", "summary")
    columns = ("COMPONENT", "PACKAGE", "SUMMARY")
    print_items(map(_brief, _descriptions()), columns, row, empty="no components", json=json)


@app.command("show")
def _show(
    *, name: Annotated[str, Argument(metavar="NAME", help="Name in flows, such as webhook.send.")], json: Json = False
) -> None:
    """Print what a component does, and the JSON Schema of its arguments."""
    from cli.output import print_fields, print_json

    known = {description.name: description for description in _descriptions()}
    description = known.get(name)
    if description is None:
        raise NotFoundError(f"there is no component {name}; there are {', '.join(known)}", reason="COMPONENT_UNKNOWN")
    if json:
        print_json({**_brief(description), "arguments": description.arguments})
        return
    print_fields([*_brief(description).items(), ("arguments", description.arguments)])


def _descriptions() -> Iterator[ComponentDescription]:
    from flowhook.process import logs
    from runner.components.catalogue import descriptions

    logs.configure(level="error")  # logs a component that can't be imported; stdout is reserved for the others
    return descriptions()


def _brief(description: ComponentDescription) -> dict[str, Any]:
    return {"name": description.name, "package": description.package, "summary": description.summary}
