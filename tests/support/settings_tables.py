"""Settings as tables of the docs: run this file to print them."""

from __future__ import annotations

from pydantic import SecretStr

from cli.commands.up import UpSettings
from cli.options import _is
from cli.setting_names import option_name, variable_name
from flowhook.process.settings import AdminSettings, CommonSettings, EdgeSettings, RouterSettings, RunnerSettings

TABLES = {
    "operations.md": {
        "Every process": CommonSettings,
        "Edge": EdgeSettings,
        "Router": RouterSettings,
        "Runner": RunnerSettings,
        "Admin": AdminSettings,
    },
    "commands.md": {"up": UpSettings},
}
"""Settings by page and heading."""


def table(model):
    """Return the lines of a table of the settings that a model has of its own."""
    common = set(CommonSettings.model_fields) if issubclass(model, CommonSettings) else set()
    own = [name for name in model.model_fields if model is CommonSettings or name not in common]
    lines = ["| variable | option | default | |", "|---|---|---|---|"]
    return lines + [_line(name, model.model_fields[name]) for name in own]


def _line(name, field):
    option = "no option" if _is(SecretStr, field) else f"`{option_name(name)}`"
    meaning = " ".join(field.description.split()).replace("|", "\\|")
    return f"| `{variable_name(name)}` | {option} | {_default(name, field.default)} | {meaning} |"


def _default(name, value):
    if value is None or value == "":
        return "none"
    if name.endswith("_port"):
        return str(value)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return f"{value:,.10g}{_unit(name)}"
    return f"`{value}`"


def _unit(name):
    if name.endswith(("_seconds", "_timeout")):
        return " s"
    return " bytes" if name.endswith("_bytes") else ""


if __name__ == "__main__":
    for page, tables in TABLES.items():
        for heading, model in tables.items():
            print(f"{page}: {heading}\n", *table(model), "", sep="\n")  # noqa: T201
