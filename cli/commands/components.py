"""`flowhook components`, `schema`: what a `call` may name, and the JSON Schema of flow files, for editors."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer import Argument

from cli.options import Json
from cli.supervisor.rundir import make_dev_directory
from flowhook.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.components.catalogue import ComponentDescription

components = typer.Typer(help="Look at components: the functions that a call may name.", no_args_is_help=True)


@components.command("list")
def _list(*, json: Json = False) -> None:
    """List the components that are installed here."""
    from cli.operation_commands import print_items

    row = operator.itemgetter("name", "package", "summary")
    columns = ("COMPONENT", "PACKAGE", "SUMMARY")
    print_items(map(_brief, _descriptions()), columns, row, empty="no components", json=json)


@components.command("show")
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


FILE: Final = "flow.schema.json"


def schema(*, json: Json = False) -> None:
    """Print the JSON Schema of a flow file, including the arguments of the installed components."""
    from cli.output import print_result
    from flowhook.process import logs

    logs.configure(level="error")  # logs a component that can't be imported; stdout is reserved for the schema
    found = installed_schema()
    print_result(found, _text(found).decode(), json=json)


def write_schema() -> Path:
    """Write the schema to the directory of `flowhook dev`, for editors, and return its path. Blocking."""
    from flowhook.security.private_files import write_private

    path = make_dev_directory() / FILE
    write_private(path, _text(installed_schema()) + b"\n", durable=False)
    return path


def installed_schema() -> Mapping[str, Any]:
    from flowhook.document.json_schema import flow_schema
    from runner.components.catalogue import descriptions

    return flow_schema({item.name: item.arguments for item in descriptions() if item.arguments is not None})


def _text(schema: Mapping[str, Any]) -> bytes:
    import orjson

    return orjson.dumps(schema, option=orjson.OPT_INDENT_2)
