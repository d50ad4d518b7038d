"""Checks calls of functions of catalogs, and what these may do: others write them, so they see no secret of a flow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from flowhook.document import catalogs
from flowhook.document.definition import strings_in, value_at, walk
from flowhook.document.diagnostics.problems import Code, Problem, suggestion
from flowhook.document.diagnostics.rules.context import Part, RuleContext
from flowhook.document.models.calls import FUNCTION_ARGUMENTS

_PASSED: Final = "pass what it needs as an argument, from `with` of the call"


def check_cataloged_function(name: str, task: Part) -> Iterator[Problem]:
    """Check that a function uses nothing but its arguments, the DSL's functions, and functions of its own catalog."""
    for path, text in strings_in(task.value, task.path):
        if "$secrets" in text or ("authentication" in path and path[-1] == "use"):
            cause = f"a function of a catalog can't use secrets or policies of the flow: {_PASSED}"
            yield Problem(path, Code.REFERENCE_UNKNOWN, cause)
    for placed in walk({"do": [{name: task.value}]}):
        called = placed.task.get("call")
        if not isinstance(called, str) or called in FUNCTION_ARGUMENTS:
            continue
        place = (*task.path, *placed.path[3:], "call")
        if not catalogs.is_cataloged(called):
            cause = f"a function of a catalog can't call {called!r}, only the DSL's functions and those of its catalog"
            yield Problem(place, Code.FUNCTION_UNKNOWN, cause)
        elif catalogs.catalog_of(called) != catalogs.catalog_of(name):
            cause = f"a function of a catalog can't call {called!r}, which is of another one"
            yield Problem(place, Code.FUNCTION_UNKNOWN, cause)


def check_call_of_catalog(context: RuleContext, call: Part, digest: Part) -> Iterator[Problem]:
    """Check a call of a function of a catalog; `digest` is what the task says of the function's file."""
    name = call.value
    function = context.own_functions.get(name)
    if function is not None:
        actual = value_at(function, ("metadata", "catalog", "sha256"))
        if digest.value is not None and digest.value != actual:
            yield digest.problem(Code.DIGEST_DIFFERS, f"the file of {name!r} has the SHA-256 {actual}")
        return
    reference = catalogs.REFERENCE.fullmatch(name)
    known: dict[str, Any] = context.catalogs
    if reference is None and not catalogs.FILE_URL.fullmatch(name):
        cause = (
            f"{name!r} names no function: expected name:1.0.0@catalog, "
            "or the https URL of its file, which ends in .yaml, .yml or .json"
        )
        yield call.problem(Code.FUNCTION_UNKNOWN, cause)
    elif reference is not None and reference["catalog"] not in {*known, catalogs.DEFAULT}:
        cause = (
            f"there is no catalog {reference['catalog']!r} in `use.catalogs`{suggestion(reference['catalog'], known)}"
        )
        yield call.problem(Code.REFERENCE_UNKNOWN, cause)
    elif name not in (context.functions or ()):
        cause = f"{name!r} is not part of the flow: `flowhook apply` fetches functions of catalogs, and adds them"
        yield call.problem(Code.FUNCTION_UNKNOWN, cause)
