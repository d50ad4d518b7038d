from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def clone(tmp_path_factory):
    """A copy of what git tracks: nothing that lies about in the work tree can slip in."""
    source = tmp_path_factory.mktemp("source")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    for name in filter(None, tracked.decode().split("\0")):
        if (ROOT / name).is_file():
            copy = source / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / name).read_bytes())
    return source


@pytest.fixture(scope="session")
def distribution(tmp_path_factory):
    """Build a distribution, a wheel or an sdist, of the project in a folder, and return its file."""

    def run(folder, kind):
        target = tmp_path_factory.mktemp(kind)
        command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(target)]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = os.environ | {"PATH": path, "FLOWHOOK_CLIENT_WITH_ANY_PROTOC": "1"}  # needs no network
        subprocess.run(command, cwd=folder, check=True, capture_output=True, env=environment)
        [built] = target.iterdir()
        return built

    return run


@pytest.fixture(scope="session")
def build(clone, distribution):
    """Build the wheel of the project in a folder of the clone."""
    return lambda folder=".": zipfile.ZipFile(distribution(clone / folder, "wheel"))
