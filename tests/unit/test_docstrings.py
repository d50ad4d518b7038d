"""Public functions of 15 lines or more say what they do: a name says it all of shorter ones only."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("admin", "cli", "edge", "flowhook", "operations", "router", "runner")
GENERATED = ("flowhook/client/sync/", "flowhook/storage/", "flowhook/v1/")
LONG = 15  # lines


def overrides(function):  # the base class describes it
    return any(isinstance(each, ast.Name) and each.id == "override" for each in function.decorator_list)


def undocumented(node, found):
    for each in ast.iter_child_nodes(node):
        if isinstance(each, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not each.name.startswith("_"):
            if isinstance(each, ast.ClassDef):
                undocumented(each, found)
            elif each.end_lineno - each.lineno + 1 >= LONG and not ast.get_docstring(each) and not overrides(each):
                found.append(each)
    return found


def test_long_public_functions_have_a_docstring():
    modules = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    written = [path for path in modules if not path.relative_to(ROOT).as_posix().startswith(GENERATED)]
    trees = {path.relative_to(ROOT): ast.parse(path.read_text(encoding="utf-8")) for path in written}
    assert [f"{path}:{each.lineno} {each.name}" for path in trees for each in undocumented(trees[path], [])] == []


def test_a_long_function_without_one_is_found():
    lines = "\n".join("    x = 1" for _ in range(LONG - 1))
    assert (
        len(undocumented(ast.parse(f"def f():\n{lines}\ndef _g():\n{lines}\nclass C:\n    def h(self): pass\n"), []))
        == 1
    )
