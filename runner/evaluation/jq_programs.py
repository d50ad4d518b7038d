"""Compiles, caches and runs jq programs; compiles JSON Schemas and validates data against them.

Also used by processes that do nothing else (`quarantine.process`), so this module has few imports.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import jq
import jsonschema
import jsonschema.exceptions
import orjson
from jsonschema import validators
from referencing.exceptions import Unresolvable
from referencing.jsonschema import EMPTY_REGISTRY

PROGRAM_CACHE: Final = 2048  # maximum number of cached programs (LRU); about 10 KB each


class JqProgramCache:
    """An LRU cache of compiled jq programs, by source."""

    def __init__(self, size: int = PROGRAM_CACHE) -> None:
        self._compiled = lru_cache(size)(jq.compile)

    def first(self, source: str, text: str) -> str | None:
        """Return the first result of a program for a JSON input, None when it has none; raises ValueError. Blocking."""
        result: str | None = next(iter(self._compiled(source).input_text(text)), None)
        return result


class CompiledSchema:
    """A compiled JSON Schema, by default draft 2020-12."""

    def __init__(self, document: Any) -> None:
        kind = validators.validator_for(document, default=jsonschema.Draft202012Validator)
        # an empty registry: the default one fetches the URL of a $ref
        self._validator = kind(document, format_checker=kind.FORMAT_CHECKER, registry=EMPTY_REGISTRY)

    def violation(self, data: Any) -> str | None:
        """Return where and how data violates the schema, without the data itself; None: it is valid. Blocking."""
        try:
            problem = jsonschema.exceptions.best_match(self._validator.iter_errors(data))
        except Unresolvable as error:
            return f"the schema refers to {error.ref}, which is not in it"
        except RecursionError:
            return "the schema or the data is nested too deeply"
        if problem is None:
            return None
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem.absolute_path)
        rule = f"{problem.validator}: {orjson.dumps(problem.validator_value, default=str).decode()}"
        return f"{place or '.'} does not meet {rule}"
