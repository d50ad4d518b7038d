"""`make dist`: what a release publishes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from support.tools import BIN

import flowhook

from .conftest import ADDRESS, ROOT

VERSION = flowhook.__version__
BESIDE = {
    "SHA256SUMS",
    "flowhook.rb",
    f"flowhook-{VERSION}.cdx.json",
    f"flowhook-{VERSION}-requirements.lock",
    f"flowhook-chart-{VERSION}.tgz",
    f"flowhook-client-{VERSION}.tgz",
}


@pytest.fixture(scope="module")
def elsewhere(clone, tmp_path_factory):
    """Another clone in another folder, where a release is built: a function that builds it."""
    if not BIN.exists() or not all(map(shutil.which, ("kustomize", "npm"))):
        pytest.skip("no tools, or no kustomize, or no npm")
    folder = shutil.copytree(clone, tmp_path_factory.mktemp("another") / "clone")

    def build(**environment):
        return subprocess.run(
            ["sh", "install/release.sh", sys.prefix],
            cwd=folder,
            env=os.environ | environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )

    build.folder = folder / "dist"
    return build


@pytest.fixture(scope="module")
def released(elsewhere):
    done = elsewhere(FLOWHOOK_REPOSITORY_URL=ADDRESS, TAG=f"v{VERSION}")
    assert done.returncode == 0, done.stderr
    return elsewhere.folder


def test_packages_built_again_elsewhere_are_the_same_bytes(released, distributions):
    packages = {path.name for path in distributions.iterdir()}
    assert {path.name for path in released.iterdir()} == packages | BESIDE
    assert [name for name in packages if (released / name).read_bytes() != (distributions / name).read_bytes()] == []


def test_the_digests_are_those_of_the_files(released):
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=released, check=True)
    assert len((released / "SHA256SUMS").read_text().splitlines()) == len([*released.iterdir()]) - 1


def test_the_bill_of_materials_has_every_package_and_no_path_of_the_machine(released):
    text = (released / f"flowhook-{VERSION}.cdx.json").read_text()
    found = json.loads(text)
    locked = re.findall(r"^([\w.-]+)==[^;\n]*$", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    names = {re.sub(r"[-_.]+", "-", each["name"]).lower() for each in found["components"]}

    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    assert found["metadata"]["component"]["version"] == VERSION
    assert {*locked, "flowhook-client"} <= names
    assert all(each.get("licenses") for each in found["components"] if each["name"].startswith("flowhook"))
    assert str(released.parent) not in text


def test_the_formula_names_files_of_the_release_by_their_digests(released):
    text = (released / "flowhook.rb").read_text()
    named = dict(re.findall(rf'url "{ADDRESS}/releases/download/v{VERSION}/(\S+)"\n\s+sha256 "(\w+)"', text))
    digests = {name: digest for digest, name in map(str.split, (released / "SHA256SUMS").read_text().splitlines())}
    assert len(named) == 3
    assert named.items() <= digests.items()


@pytest.mark.parametrize(
    ("environment", "message"),
    [({"FLOWHOOK_REPOSITORY_URL": ""}, "public address"), ({"FLOWHOOK_REPOSITORY_URL": ADDRESS, "TAG": "v9"}, "v9")],
)
def test_without_an_address_or_with_the_tag_of_another_version_nothing_is_built(elsewhere, environment, message):
    done = elsewhere(**environment)
    assert done.returncode != 0
    assert message in done.stderr
