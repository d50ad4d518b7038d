"""The commands of the Dockerfile's build stage, run in a folder of their own: an image can't be built everywhere."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import flowhook

ROOT = Path(__file__).parents[3]
BUILD = (ROOT / "Dockerfile").read_text().partition("\n\n\nFROM ")[0]
COMMANDS = [command.replace("\\\n", " ") for command in re.findall(r"^RUN ((?:.*\\\n)*.*)$", BUILD, re.MULTILINE)]
LOCKED = re.findall(r"^([\w.-]+)==([^\n]*)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)


def is_sent(name):
    """Whether .dockerignore lets a file into the build: the last pattern that fits decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.lstrip("!").lstrip("/").removeprefix("**/")
        parts = [name, *(str(parent) for parent in Path(name).parents)]
        if not line.startswith("#") and any(fnmatch.fnmatch(part, pattern) for part in parts):
            sent = line.startswith("!")
    return sent


@pytest.fixture(scope="module")
def image(clone, tmp_path_factory):
    """Run the commands, with /opt elsewhere and without compiling, and return what stands for /opt."""
    folder = tmp_path_factory.mktemp("image")
    context, opt = folder / "build", folder / "opt"
    for path in clone.rglob("*"):
        name = path.relative_to(clone).as_posix()
        if path.is_file() and is_sent(name):
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, context / name)
    opt.mkdir()
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}"))
    environment = os.environ | {"PATH": f"{python.parent}:{os.environ['PATH']}", "UV_PYTHON_DOWNLOADS": "never"}
    for command in COMMANDS:
        # the cache that `make setup` has filled makes this a matter of seconds
        done = subprocess.run(
            command.replace("/opt/", f"{opt}/"),
            shell=True,
            cwd=context,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    return opt


def run(image, *arguments):
    done = subprocess.run(
        [image / "flowhook" / "bin" / arguments[0], *arguments[1:]], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_the_build_stage_has_the_commands_that_are_run_here():
    assert len(COMMANDS) == 3
    assert COMMANDS[0].startswith("python -m venv /opt/uv ")


def test_the_image_holds_the_locked_packages_and_flowhook_and_nothing_else(image):
    listing = "import importlib.metadata as m; print(*(d.metadata['Name'] for d in m.distributions()))"
    _, output = run(image, "python", "-I", "-c", listing)

    def canonical(names):
        return {re.sub(r"[-_.]+", "-", name).lower() for name in names}

    installed = canonical(output.split())
    ours = ["flowhook", "flowhook-client"]
    assert installed <= canonical([*(name for name, _ in LOCKED), *ours])
    assert canonical([*(name for name, condition in LOCKED if ";" not in condition), *ours]) <= installed


def test_the_command_of_the_image_is_this_version(image):
    assert run(image, "flowhook", "--version") == (0, f"{flowhook.__version__}\n")


def test_all_processes_are_in_the_image(image):
    search = "import importlib.util as u; print(*(u.find_spec(name).origin for name in 'ROLES'.split()))"
    code, output = run(
        image, "python", "-I", "-c", search.replace("ROLES", "admin.app edge.app router.process.app runner.app")
    )

    assert code == 0
    assert all(Path(found).is_relative_to(image / "flowhook") for found in output.split())


def test_the_health_check_gets_into_the_image(image):
    code, output = run(image, "python", "-I", str(image / "flowhook" / "healthcheck.py"), "tcp", "1")

    assert code == 1
    assert output.startswith("ConnectionRefusedError: ")
