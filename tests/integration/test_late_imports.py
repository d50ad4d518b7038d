"""A process that is ready has all the code that it may need: its installation may be replaced while it runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

ROLES = {
    "edge": ("edge.app", "edge.app"),
    "router": ("router.process.app", "router.process.app"),
    "router of a replicated log": ("router.process.app, router.process.replicated_app", "router.process.app"),
    "admin": ("admin.app, runner.tracing.tracer", "admin.app"),
    "runner": ("runner.app", "runner.app"),
    "worker of a runner": ("runner.worker.fork_server", "runner.worker.fork_server"),
}
"""By process: what it imports at its start, and the module with its `LATE_IMPORTS`."""

NEVER = {
    "uvloop": "before the loop runs",
    "flowhook.events.lifecycle": "by routers and workers alone, at their start",
    "router.process.replicated_app": "before a router of a replicated log serves",
    "flowhook.client.aio.client": "by admin alone, at its start",
    "flowhook.client.sync.client": "by no process",
    "flowhook.document.diagnostics.lint": "by the router alone, at its start",
    "flowhook.document.loader": "by the router alone, at its start",
    "flowhook.json.schemas": "by processes of `sandbox`, which are started later",
    "grpc_status.rpc_status": "by servers of gRPC alone, which are routers",
    "grpc_tools.protoc": "by processes of `sandbox`, which are started later",
    "jq": "by processes of `sandbox`, which are started later",
    "runner.tracing.replay": "by processes of `sandbox`, which are started later",
}
"""What functions import that a process does not run once it is ready, and who does."""

ALWAYS = {"router": {"grpc_status.rpc_status"}, "router of a replicated log": {"grpc_status.rpc_status"}}
"""What a role does run."""

SCAN = """
import ast, importlib, sys
import {roots}
for name in getattr(importlib.import_module({late!r}), "LATE_IMPORTS", ()):
    importlib.import_module(name)

def late(tree):
    "Yield the nodes that import, or name a module to import, in functions."
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    inner = f"{{node.module}}.{{alias.name}}"
                    yield inner if importlib.util.find_spec(inner) else node.module
            elif isinstance(node, ast.Call):
                named = {{each.id for each in ast.walk(node) if isinstance(each, ast.Name)}}
                if "import_module" in named:
                    yield from (each.value for each in node.args if isinstance(each, ast.Constant))

def find_spec(name, find=importlib.util.find_spec):
    try:
        return find(name)
    except ModuleNotFoundError:  # its parent is a module without others in it
        return None

importlib.util.find_spec = find_spec
for module in list(sys.modules.values()):
    file = getattr(module, "__file__", None) or ""
    ours = module.__name__.partition(".")[0] in ("edge", "router", "admin", "runner", "flowhook", "operations")
    if not ours or not file.endswith(".py") or module.__name__.startswith("flowhook.v1"):
        continue
    lazy = getattr(module, "_FROM", {{}}).values()
    targets = {{*late(ast.parse(open(file).read())), *(f"{{module.__name__}}.{{name}}" for name in lazy)}}
    for target in targets - sys.modules.keys():
        print(module.__name__, target)
"""


@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_imported_that_was_not_imported_when_the_process_was_ready(role):
    roots, late = ROLES[role]
    script = SCAN.format(roots=roots, late=late)
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    missing = {tuple(line.split()) for line in done.stdout.splitlines()}
    passed_over = NEVER.keys() - ALWAYS.get(role, set())
    assert {each for each in missing if each[1] not in passed_over} == set()
