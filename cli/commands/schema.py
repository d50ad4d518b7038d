"""`flowhook schema`: prints the JSON Schema of a flow file, for editors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cli.options import Json
from cli.supervisor.rundir import make_dev_directory

FILE: Final = "flow.schema.json"


def command(*, json: Json = False) -> None:
    """Print the JSON Schema of a flow file, including the arguments of the installed components."""
    from cli.output import print_result
    from flowhook.process import logs

    logs.configure(level="error")  # logs a component that can't be imported; stdout is reserved for the schema
    schema = installed_schema()
    print_result(schema, _text(schema).decode(), json=json)


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
