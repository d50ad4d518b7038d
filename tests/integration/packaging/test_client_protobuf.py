"""The client's wheel, as it is released, with each major version of protobuf that applications have.

It is built and installed from the package index, and skipped where there is none.
"""

from __future__ import annotations

import asyncio
import os
import sys

import pytest
from support.client_program import PROGRAM
from support.routers import flow, running_router

from .conftest import uv


@pytest.fixture(scope="module")
def wheel(distributions):
    [wheel] = distributions.glob("flowhook_client-*.whl")
    return wheel


@pytest.mark.parametrize("protobuf", ["==6.31.1", ">=6.31,<7", ">=7,<8"])
async def test_the_client_works_with_the_protobuf_that_applications_have(wheel, protobuf, tmp_path):
    python = tmp_path / "venv" / "bin" / "python"
    assert uv("venv", "--quiet", "--python", sys.executable, tmp_path / "venv").returncode == 0
    installed = uv("pip", "install", "--quiet", "--python", python, wheel, f"protobuf{protobuf}")
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

    resolved = uv("pip", "compile", *options, wanted)

    assert resolved.returncode == 0, resolved.stderr
    assert "grpcio==" in resolved.stdout
