"""`flowhook schema`: prints the JSON Schema of a flow file, for editors."""

from __future__ import annotations

from cli.options import Json


def command(*, json: Json = False) -> None:
    """Print the JSON Schema of a flow file, including the arguments of the installed components."""
    import orjson

    from cli.output import print_result
    from flowhook.document.json_schema import flow_schema
    from flowhook.process import logs
    from runner.components.catalogue import descriptions

    logs.configure(level="error")  # logs a component that can't be imported; stdout is reserved for the schema
    schema = flow_schema({item.name: item.arguments for item in descriptions() if item.arguments is not None})
    print_result(schema, orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode(), json=json)
