"""What is released to the package index: built as it is released, installed from a folder into clean environments."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes

import pytest

import flowhook

from .conftest import ADDRESS, ROOT, UV, uv

TWINE = "twine==7.0.0"


@pytest.fixture
def environment(tmp_path, distributions):
    """Install packages of the folder, and what they need from the index, into an environment; return its folder."""
    folder = tmp_path / "environment"
    assert uv("venv", "--quiet", "--python", sys.executable, folder).returncode == 0

    def install(*packages):
        options = ["--quiet", "--python", folder, "--find-links", distributions]
        done = uv("pip", "install", *options, *packages)
        assert done.returncode == 0, done.stderr
        return folder

    return install


def whole(folder):
    """Return whether every file that a distribution of ours recorded in an environment is there with its size."""
    code = (
        "import importlib.metadata as m; f=[f for d in m.distributions() if d.metadata['Name'].startswith('flowhook') "
        "for f in d.files]; print(all(not e.size or e.size == e.locate().stat().st_size for e in f), len(set(f)))"
    )
    done = subprocess.run([folder / "bin" / "python", "-I", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[0] == "True"


def imports(folder, *modules):
    code = f"import {', '.join(modules)}"
    return (
        subprocess.run([folder / "bin" / "python", "-I", "-c", code], capture_output=True, check=False).returncode == 0
    )


def metadata(path):
    with zipfile.ZipFile(path) as wheel:
        [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(wheel.read(name))


def test_there_are_a_wheel_and_a_source_distribution_of_both(distributions):
    version = flowhook.__version__
    assert {path.name for path in distributions.iterdir()} == {
        f"{name}-{version}{kind}"
        for name in ("flowhook", "flowhook_client")
        for kind in ("-py3-none-any.whl", ".tar.gz")
    }


def test_the_index_takes_their_descriptions(distributions):
    done = uv("tool", "run", "--quiet", TWINE, "check", "--strict", *distributions.iterdir())
    assert (done.returncode, done.stdout.count("PASSED")) == (0, 4), done.stdout + done.stderr


@pytest.mark.parametrize("name", ["flowhook", "flowhook_client"])
def test_the_metadata_is_whole_and_links_lead_to_this_version(distributions, name):
    [wheel] = distributions.glob(f"{name}-*.whl")
    found = metadata(wheel)
    urls = dict(each.split(", ") for each in found.get_all("Project-URL"))
    description = found.get_payload()

    assert {"Homepage", "Documentation", "Changelog", "Issues", "Source"} == urls.keys()
    assert all(url.startswith(ADDRESS) for url in urls.values())
    assert found["License-Expression"].startswith("Apache-2.0")
    assert "LICENSE" in found.get_all("License-File")
    assert found["Keywords"]
    assert "Programming Language :: Python :: 3.14" in found.get_all("Classifier")
    assert f"{ADDRESS}/blob/v{flowhook.__version__}/" in description
    assert "](docs/" not in description
    assert "](../" not in description


def test_a_source_distribution_holds_no_generated_stubs_and_no_path_that_leaves_it(distributions):
    for path in distributions.glob("*.tar.gz"):
        with tarfile.open(path) as archive:
            names = archive.getnames()
            assert all(member.isfile() for member in archive.getmembers())
        assert not [name for name in names if "_pb2" in name]


def test_the_client_alone(environment):
    folder = environment("flowhook-client")
    assert imports(folder, "flowhook.client", "flowhook.v1.ingest_service_pb2_grpc")
    assert not imports(folder, "router")
    assert not imports(folder, "tornado")


def test_the_server_brings_its_client_and_one_leaves_the_other_whole(environment):
    folder = environment("flowhook")
    assert imports(folder, "flowhook.client", "router.process.app", "cli")
    environment("--reinstall-package", "flowhook-client", "flowhook-client")
    environment("--reinstall-package", "flowhook", "flowhook")
    assert whole(folder)
    assert uv("pip", "check", "--python", folder).returncode == 0
    uv("pip", "uninstall", "--quiet", "--python", folder, "flowhook")
    assert whole(folder)
    assert imports(folder, "flowhook.client")


@pytest.mark.parametrize("source", ["distributions", "clone"])
def test_without_wheels_pip_and_uv_build_both(source, request, tmp_path):
    found = request.getfixturevalue(source)
    projects = [*found.glob("*.tar.gz")] if source == "distributions" else [found, found / "clients" / "python"]
    folder = tmp_path / "environment"
    assert uv("venv", "--quiet", "--python", sys.executable, folder).returncode == 0
    done = uv("pip", "install", "--quiet", "--no-cache", "--no-deps", "--python", folder, *projects)
    assert done.returncode == 0, done.stderr
    assert whole(folder)
    assert (folder / "bin" / "flowhook").exists()
    missing = uv("pip", "check", "--python", folder).stderr
    assert "requires `flowhook-client" not in missing  # the one that was built is the one that is required


def test_a_cluster_of_uvx_answers_a_webhook(distributions, tmp_path):
    with socket.socket() as free, socket.socket() as other, socket.socket() as third:
        ports = []
        for each in (free, other, third):
            each.bind(("127.0.0.1", 0))
            ports.append(str(each.getsockname()[1]))
    http_port, admin_port, grpc_port = ports
    [wheel] = distributions.glob("flowhook-*.whl")
    command = [UV, "tool", "run", "--quiet", "--python", sys.executable, "--find-links", distributions]
    command += ["--from", wheel, "flowhook", "up", "--flows", ROOT / "examples", "--data-dir", tmp_path / "data"]
    command += ["--http-port", http_port, "--admin-port", admin_port, "--grpc-port", grpc_port]
    command = [str(each) for each in command]
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "FLOWHOOK_"))}

    with subprocess.Popen(command, cwd=tmp_path, env=plain, stdout=subprocess.PIPE, text=True) as cluster:
        try:
            assert any(line.startswith("flowhook ready") for line in cluster.stdout)
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", int(http_port), timeout=20)) as sender:
                sender.request("POST", "/hook/hello", '{"name": "Ada"}', {"Content-Type": "application/json"})
                response = sender.getresponse()
                assert (response.status, json.loads(response.read())["id"][:4]) == (202, "evt_")
        finally:
            cluster.send_signal(signal.SIGINT)
            cluster.stdout.read()
    assert cluster.returncode == 0
