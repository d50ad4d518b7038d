"""What `install/packages.sh` leaves in an environment, and what it removes."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "install" / "packages.sh"
UV = Path(sys.prefix) / "bin" / "uv"
BACKEND = """
import shutil
def build_editable(directory, *_):
    shutil.copy("product-1.0-py3-none-any.whl", directory)
    return "product-1.0-py3-none-any.whl"
"""

pytestmark = pytest.mark.skipif(not UV.exists(), reason="there is no uv beside this Python")


def wheel(directory, name, version="1.0"):
    """Write a wheel without content, and return its path."""
    path = directory / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


@pytest.fixture
def project(tmp_path):
    """A folder with a project, wheels and an environment; the current folder of what is installed."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "product"\nversion = "1.0"\n'
    )
    (tmp_path / "backend.py").write_text(BACKEND)
    wheel(tmp_path, "product")
    venv.create(tmp_path / "venv", with_pip=True, symlinks=True)
    shutil.copy(UV, tmp_path / "venv" / "bin" / "uv")
    (tmp_path / "venv" / ".uv").write_text("made")
    return tmp_path


def uv(project, *arguments):
    return subprocess.run(
        [project / "venv" / "bin" / "uv", "pip", *arguments, "--python", project / "venv" / "bin" / "python"],
        env={"UV_OFFLINE": "1", "UV_CACHE_DIR": str(project / "cache"), "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def install(project, *names):
    """Install a lock file with these packages."""
    lock = project / "requirements.lock"
    lines = [f"--find-links {project / 'wheels'}"]
    for name in names:
        digest = hashlib.sha256(wheel(project / "wheels", name).read_bytes()).hexdigest()
        lines.append(f"{name}==1.0 \\\n    --hash=sha256:{digest}")
    lock.write_text("\n".join(lines) + "\n")
    subprocess.run(
        ["sh", SCRIPT, "venv", lock],
        cwd=project,
        env={"UV_OFFLINE": "1", "UV_CACHE_DIR": str(project / "cache"), "PATH": "/usr/bin:/bin"},
        check=True,
    )


def installed(project):
    found = {each["name"] for each in json.loads(uv(project, "list", "--format", "json"))}
    return found - {"pip", "setuptools", "uv", "wheel"}


def test_a_component_that_a_user_installed_stays_when_the_lock_file_changes(project):
    install(project, "one", "two")
    assert installed(project) == {"one", "two", "product"}
    uv(project, "install", str(wheel(project, "acme_flowhook")))
    install(project, "one", "three")
    assert installed(project) == {"one", "three", "product", "acme-flowhook"}  # what was locked before is gone
    assert (project / "venv" / ".uv").exists()
