"""Names settings as command-line options and environment variables, and explains invalid ones in these terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pydantic import ValidationError

ENV_PREFIX: Final = "FLOWHOOK_"


def option_name(setting: str) -> str:
    """Return the option of a setting: `--http-port`."""
    return "--" + setting.replace("_", "-")


def variable_name(setting: str) -> str:
    """Return the environment variable of a setting: `FLOWHOOK_HTTP_PORT`."""
    return ENV_PREFIX + setting.upper()


def explain(error: ValidationError, given: Mapping[str, Any]) -> str:
    """Return what is wrong with settings, each named as its option when it was `given`, else as its variable."""
    problems = []
    for detail in error.errors(include_url=False, include_input=False, include_context=False):
        name = str(detail["loc"][0]) if detail["loc"] else ""
        source = option_name(name) if given.get(name) is not None else variable_name(name)
        message = detail["msg"].removeprefix("Value error, ")
        problems.append(f"{source}: {message[:1].lower()}{message[1:]}")
    return "; ".join(problems)
