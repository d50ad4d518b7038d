"""What an installation holds: the generated code, and our packages rather than others of the same names."""

from __future__ import annotations

import importlib
import tarfile
import zipfile
from pathlib import Path

import pytest

import flowhook
from admin.shipped_files import FOLDER, shipped_paths

ROOT = Path(__file__).parents[3]
PACKAGES = ["admin", "cli", "edge", "flowhook", "operations", "router", "runner"]
PROTOS = [path.stem for path in (ROOT / "protos" / "flowhook" / "v1").glob("*.proto")]


@pytest.fixture(scope="module")
def wheel(build):
    return build()


@pytest.fixture(scope="module")
def client_wheel(build):
    return build("clients/python")


def test_a_wheel_carries_the_generated_stubs_of_what_is_stored(wheel):
    assert {"flowhook/storage/v1/batch_pb2.py", "flowhook/storage/v1/batch_pb2.pyi"} <= set(wheel.namelist())


def test_the_wheel_of_the_client_carries_the_generated_stubs(client_wheel):
    names = set(client_wheel.namelist())
    for proto in PROTOS:
        assert {
            f"flowhook/v1/{proto}_pb2.py",
            f"flowhook/v1/{proto}_pb2.pyi",
            f"flowhook/v1/{proto}_pb2_grpc.py",
        } <= names


def test_the_wheel_of_the_client_carries_the_generated_client(client_wheel):
    modules = {path.name for path in (ROOT / "flowhook" / "client" / "aio").glob("*.py")}
    assert {f"flowhook/client/sync/{name}" for name in modules} <= set(client_wheel.namelist())


def test_the_wheel_and_the_one_of_the_client_share_no_file_and_have_every_file_between_them(wheel, client_wheel, clone):
    server, client = set(wheel.namelist()), set(client_wheel.namelist())
    sources = {path.relative_to(clone).as_posix() for name in PACKAGES for path in (clone / name).rglob("*.py")}

    assert not server & client
    assert sources <= server | client


def test_the_server_requires_the_client_of_its_version(wheel):
    [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    assert f"Requires-Dist: flowhook-client=={flowhook.__version__}" in wheel.read(name).decode().splitlines()


def test_the_wheel_of_a_source_distribution_is_the_same(wheel, clone, distribution, tmp_path):
    with tarfile.open(distribution(clone, "sdist")) as archive:
        archive.extractall(tmp_path, filter="data")
    [folder] = tmp_path.iterdir()
    assert not (folder / "flowhook" / "client" / "sync").exists()

    with zipfile.ZipFile(distribution(folder, "wheel")) as built:
        assert {name: built.read(name) for name in built.namelist() if name.startswith("flowhook/")} == {
            name: wheel.read(name) for name in wheel.namelist() if name.startswith("flowhook/")
        }


def test_a_wheel_carries_the_packages_and_nothing_else(wheel):
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


def test_a_wheel_carries_what_is_not_python(wheel):
    names = set(wheel.namelist())
    folder = ROOT / "admin" / "console"
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert {path.relative_to(ROOT).as_posix() for path in files} <= names


def test_a_wheel_carries_the_documentation_and_the_examples(wheel):
    shipped = {f"{FOLDER}/{path}" for path in shipped_paths(ROOT)}
    assert shipped <= set(wheel.namelist())
    assert f"{FOLDER}/docs/console.md" in shipped
    assert f"{FOLDER}/examples/hello.yaml" in shipped


def test_a_wheel_has_the_version_of_the_package(wheel):
    assert f"flowhook-{flowhook.__version__}.dist-info/METADATA" in wheel.namelist()


@pytest.mark.parametrize("package", PACKAGES)
def test_our_packages_are_the_ones_that_are_imported(package):
    # an editable install comes after site-packages on the path, and the registry has packages called edge and router
    assert Path(importlib.import_module(package).__file__).parent == ROOT / package
