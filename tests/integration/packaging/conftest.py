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
def build(clone, tmp_path_factory):
    """Build the wheel of the project in a folder of the clone."""

    def run(folder="."):
        target = tmp_path_factory.mktemp("wheel")
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        subprocess.run(command, cwd=clone / folder, check=True, capture_output=True, env=os.environ | {"PATH": path})
        return zipfile.ZipFile(next(target.glob("*.whl")))

    return run
