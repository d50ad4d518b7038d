from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
UV = Path(sys.executable).with_name("uv")
ADDRESS = "https://repository.example/flowhook"


def uv(*arguments, **environment):
    """Run uv without a terminal, and return what became of it; the test is skipped where there is no package index."""
    command = [str(each) for each in (UV, *arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=os.environ | environment
    )
    if done.returncode and ("Failed to fetch" in done.stderr or "error trying to connect" in done.stderr):
        pytest.skip("no package index")
    return done


def build_all(source, target):
    """Build wheel and source distribution of both, as they are released."""
    for project in (source, source / "clients" / "python"):
        built = uv("build", "--quiet", "--out-dir", target, project, FLOWHOOK_REPOSITORY_URL=ADDRESS)
        assert built.returncode == 0, built.stderr
    (target / ".gitignore").unlink()
    return target


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


@pytest.fixture(scope="session")
def distributions(clone, tmp_path_factory):
    """A folder with what is released to the package index, built once for all workers: it is an index for uv."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    target = shared / "distributions"
    with (shared / "distributions.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            build_all(clone, shared / "building").rename(target)
    return target
