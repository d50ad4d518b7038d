"""The client's own package: what is in it, and that it works where there is nothing else."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sysconfig
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest
from support.client_program import PROGRAM
from support.routers import flow, running_router

import flowhook

ROOT = Path(__file__).parents[3]
DEPENDENCIES = {"googleapis-common-protos", "grpcio", "protobuf"}


@pytest.fixture(scope="module")
def wheel(build):
    return build("clients/python")


def requirements(metadata):
    """Names of what a distribution needs, extras aside."""
    needed = (line.partition(":")[2].strip() for line in metadata.splitlines() if line.startswith("Requires-Dist:"))
    return {re.match(r"[\w.-]+", each)[0] for each in needed if "extra ==" not in each}


def metadata_of(wheel):
    [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return wheel.read(name).decode()


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """A Python that has the wheel, what it needs, and nothing else.

    Its packages are copied from the environment that runs this: nobody need be asked for them.
    """
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=False)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    wheel.extractall(site)
    wanted, there = requirements(metadata_of(wheel)), set()
    while wanted:
        name = wanted.pop()
        there.add(name)
        found = distribution(name)
        for file in found.files:
            if ".." not in file.parts and file.suffix != ".pyc":
                target = site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file.locate(), target)
        wanted |= requirements(found.read_text("METADATA")) - there
    return folder / "bin" / "python"


def test_the_client_needs_grpc_and_protobuf_and_nothing_of_the_server(wheel):
    assert requirements(metadata_of(wheel)) == DEPENDENCIES


def test_its_wheel_carries_modules_of_the_package_alone_and_its_license(wheel):
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert {name.partition("/")[0] for name in names} == {"flowhook"}
    assert {Path(name).suffix for name in names} == {".py", ".pyi", ".typed"}
    assert {"flowhook/client/sync/client.py", "flowhook/v1/ingest_service_pb2_grpc.py"} <= names
    [license_file] = [name for name in wheel.namelist() if name.endswith("/licenses/LICENSE")]
    assert wheel.read(license_file) == (ROOT / "LICENSE").read_bytes()


def test_it_has_the_version_of_the_server(wheel):
    assert f"flowhook_client-{flowhook.__version__}.dist-info/METADATA" in wheel.namelist()


async def test_it_works_where_there_is_nothing_else(python, tmp_path):
    async with running_router(tmp_path / "data") as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        command = [python, "-I", "-c", PROGRAM, router.target, router.token()]
        program = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env={"PATH": os.environ["PATH"]}
        )
        output, _ = await program.communicate()
    assert (output.decode(), program.returncode) == ("done\n", 0)
