"""The GitHub Action: its steps run as GitHub runs them, in a folder with flows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest
from ruamel.yaml import YAML

from .conftest import ROOT

ACTION = YAML(typ="safe", pure=True).load(ROOT / "action.yml")
INSTALL, CHECK = ACTION["runs"]["steps"]
WRONG = "document: {dsl: 1.0.3, namespace: default, name: a, version: 1.0.0}\nwebhok: {}\ndo: [{a: {set: {b: 1}}}]\n"
WARNED = "document: {dsl: 1.0.3, namespace: default, name: b, version: 1.0.0}\ndo: [{a: {set: {b: '{{ c }}'}}}]\n"


@pytest.fixture(scope="module")
def step(clone, tmp_path_factory):
    """Run a step of the action with inputs; return its exit code and its lines."""
    temporary = tmp_path_factory.mktemp("runner")
    workspace = tmp_path_factory.mktemp("workspace")
    shutil.copytree(clone / "examples", workspace / "flows")
    (workspace / "wrong.yaml").write_text(WRONG)
    (workspace / "warned.yaml").write_text(WARNED)

    def run(step, **inputs):
        known = {f"inputs.{name}": each["default"] for name, each in ACTION["inputs"].items()}
        known |= {f"inputs.{name}": value for name, value in inputs.items()}
        known["github.action_path"] = str(clone)
        given = {
            name: re.sub(r"\$\{\{ ([\w.]+) \}\}", lambda found: known[found[1]], value)
            for name, value in step["env"].items()
        }
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=workspace,
            env=os.environ | given | {"RUNNER_TEMP": str(temporary)},
            check=False,
            capture_output=True,
            text=True,
            timeout=400,
        )
        return done.returncode, done.stdout.splitlines(), done.stderr

    code, _, errors = run(INSTALL)
    if code and "Could not find a version" in errors:
        pytest.skip("no package index")
    assert code == 0, errors
    return run


def test_flows_that_are_fine_pass(step):
    assert step(CHECK)[:2] == (0, [])


def test_a_mistake_fails_and_is_annotated_where_it_is(step):
    code, lines, _ = step(CHECK, files="flows wrong.yaml")
    assert code == 1
    assert lines == ["::error file=wrong.yaml,line=2::webhok: unknown key 'webhok', did you mean 'webhook'?"]


def test_a_warning_fails_if_it_is_to(step):
    code, [line], _ = step(CHECK, files="warned.yaml")
    assert (code, line.partition(",line=")[0]) == (0, "::warning file=warned.yaml")
    code, [line], _ = step(CHECK, files="warned.yaml", strict="true")
    assert (code, line.partition(",line=")[0]) == (1, "::error file=warned.yaml")


def test_what_is_not_there_fails(step):
    code, _, errors = step(CHECK, files="nowhere.yaml")
    assert code == 1
    assert "nowhere.yaml" in errors
