"""Names of settings as command-line options and environment variables, and messages about invalid settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pydantic import ValidationError

ENV_PREFIX: Final = "FLOWHOOK_"
INVALID: Final = "SETTING_INVALID"  # reason of the end of a process whose settings are invalid


def option_name(setting: str) -> str:
    return "--" + setting.replace("_", "-")


def variable_name(setting: str) -> str:
    return ENV_PREFIX + setting.upper()


def explain_validation_error(error: ValidationError, given: Mapping[str, Any]) -> str:
    """Describe the faults of settings; each setting is named by its option if it was `given`, else by its variable."""
    problems = []
    for detail in error.errors(include_url=False, include_input=False, include_context=False):
        message = detail["msg"].removeprefix("Value error, ")
        if not detail["loc"]:  # of several settings, which it names
            problems.append(message)
            continue
        name = str(detail["loc"][0])
        source = option_name(name) if given.get(name) is not None else variable_name(name)
        problems.append(f"{source}: {message[:1].lower()}{message[1:]}")
    return "; ".join(problems)
