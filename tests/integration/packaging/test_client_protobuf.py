"""The client's wheel, as it is released, with each major version of protobuf that applications have.

It is built and installed from the package index, and skipped where there is none.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.client_program import PROGRAM
from support.routers import flow, running_router

UV = Path(sys.executable).with_name("uv")


def run(*command):
    return subprocess.run([str(each) for each in command], capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def wheel(clone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    built = run(UV, "build", "--quiet", "--wheel", "--out-dir", folder, clone / "clients" / "python")
    if built.returncode and ("fetch" in built.stderr or "connect" in built.stderr):
        pytest.skip("no package index")
    assert built.returncode == 0, built.stderr
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.mark.parametrize("protobuf", ["==6.31.1", ">=6.31,<7", ">=7,<8"])
async def test_the_client_works_with_the_protobuf_that_applications_have(wheel, protobuf, tmp_path):
    python = tmp_path / "venv" / "bin" / "python"
    assert run(UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv").returncode == 0
    installed = run(UV, "pip", "install", "--quiet", "--python", python, wheel, f"protobuf{protobuf}")
    assert installed.returncode == 0, installed.stderr

    async with running_router(tmp_path / "data") as router, router.client() as client:
        await client.flows.apply([flow("hello")])
        program = await asyncio.create_subprocess_exec(
            *[python, "-I", "-c", PROGRAM, router.target, router.token()],
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"PATH": os.environ["PATH"]},
        )
        output, _ = await program.communicate()

    assert (output.decode(), program.returncode) == ("done\n", 0)


@pytest.mark.parametrize("platform", ["windows", "macos", "linux"])
def test_what_the_client_needs_is_there_for_each_platform(wheel, platform, tmp_path):
    wanted = tmp_path / "requirements.in"
    wanted.write_text(f"flowhook-client @ file://{wheel}\n")
    options = ["--quiet", "--python-platform", platform, "--python-version", "3.13", "--only-binary", ":all:"]

    resolved = run(UV, "pip", "compile", *options, wanted)

    assert resolved.returncode == 0, resolved.stderr
    assert "grpcio==" in resolved.stdout
