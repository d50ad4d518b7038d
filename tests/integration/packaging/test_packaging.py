"""What an installation holds: the generated stubs, and our packages rather than others of the same names."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ["admin", "cli", "edge", "flowhook", "router", "runner"]
PROTOS = [path.stem for path in (ROOT / "protos" / "flowhook" / "v1").glob("*.proto")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of what git tracks: nothing that lies about in the work tree can slip in."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    for name in filter(None, tracked.decode().split("\0")):
        if (ROOT / name).is_file():
            copy = source / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(build, cwd=source, check=True, capture_output=True, env=os.environ | {"PATH": path})
    return zipfile.ZipFile(next(target.glob("*.whl")))


def test_a_wheel_carries_the_generated_stubs(wheel):
    names = set(wheel.namelist())
    for proto in PROTOS:
        assert {
            f"flowhook/v1/{proto}_pb2.py",
            f"flowhook/v1/{proto}_pb2.pyi",
            f"flowhook/v1/{proto}_pb2_grpc.py",
        } <= names


def test_a_wheel_carries_the_packages_and_nothing_else(wheel):
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_a_wheel_carries_what_is_not_python(wheel):
    assert "admin/overview.html" in wheel.namelist()


@pytest.mark.parametrize("package", PACKAGES)
def test_our_packages_are_the_ones_that_are_imported(package):
    # an editable install comes after site-packages on the path, and the registry has packages called edge and router
    assert Path(importlib.import_module(package).__file__).parent == ROOT / package
