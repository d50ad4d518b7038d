"""The lock files agree with pyproject.toml and with one another; `make lock` writes them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUN, DEV, UV = "requirements.lock", "requirements-dev.lock", "requirements-uv.lock"
GROUPS = PYPROJECT["dependency-groups"]
WANTED = {
    RUN: PYPROJECT["project"]["dependencies"] + GROUPS["build"],
    DEV: PYPROJECT["project"]["dependencies"]
    + PYPROJECT["project"]["optional-dependencies"]["dev"]
    + GROUPS["build"]
    + PYPROJECT["build-system"]["requires"],
    UV: GROUPS["uv"],
}


def pins(name):
    """The lock's blocks by package: one or more requirements of a version, each with the hashes of its files."""
    found = {}
    text = re.sub(r"^\s*#.*\n", "", (ROOT / name).read_text(), flags=re.MULTILINE)
    for block in filter(None, re.split(r"\n(?=\S)", text)):
        requirement, *hashes = re.split(r"\s*\\\n\s*", block.strip())
        found.setdefault(canonicalize_name(Requirement(requirement).name), {})[requirement] = hashes
    return found


@pytest.mark.parametrize("name", WANTED)
def test_a_lock_pins_what_is_wanted_and_by_hash(name):
    locked = pins(name)
    for text in WANTED[name]:
        wanted = Requirement(text)
        versions = [next(iter(Requirement(pin).specifier)).version for pin in locked[canonicalize_name(wanted.name)]]
        assert all(version in wanted.specifier for version in versions), (text, versions)
    assert all(
        hashes and all(each.startswith("--hash=sha256:") for each in hashes)
        for versions in locked.values()
        for hashes in versions.values()
    )


def files(name):
    """The versions that a lock pins, and their hashes. Its markers say for which of its own packages one is needed."""
    return {
        package: [(Requirement(pin).specifier, sorted(hashes)) for pin, hashes in versions.items()]
        for package, versions in pins(name).items()
    }


def test_flowhook_runs_with_the_versions_that_are_tested():
    locked = files(DEV)
    assert {name: locked.get(name) for name in files(RUN)} == files(RUN)


def test_what_only_development_needs_is_not_installed_to_run_flowhook():
    assert not pins(RUN).keys() & {"hypothesis", "mypy", "pytest", "ruff"}
