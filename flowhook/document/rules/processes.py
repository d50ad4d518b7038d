"""Checks the flows, scripts and shell commands that tasks run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flowhook.document import unsupported, variable_scopes
from flowhook.document.codes import Code
from flowhook.document.problems import Path, Problem
from flowhook.document.rules.calls import check_authentication
from flowhook.document.rules.context import RuleContext
from flowhook.document.rules.tree import mapping, null_keys


def check_run(context: RuleContext, task: dict[str, Any], path: Path) -> Iterator[Problem]:
    """Check the process of a `run` task."""
    run, place = mapping(task["run"]), (*path, "run")
    yield from null_keys(run, place)
    for key, cause in unsupported.PROCESSES.items():
        if key in run:
            yield Problem((*place, key), Code.UNSUPPORTED, cause)
            return
    yield from context.template(run, place, variable_scopes.TASK)
    for key, process in run.items():
        yield from null_keys(process, (*place, key))
        yield from null_keys(mapping(process).get("environment"), (*place, key, "environment"))
    source = mapping(mapping(run.get("script")).get("source"))
    endpoint = mapping(source.get("endpoint"))
    place = (*place, "script", "source", "endpoint")
    yield from null_keys(endpoint, place)
    yield from check_authentication(context, endpoint.get("authentication"), (*place, "authentication"))
