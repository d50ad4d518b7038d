"""The image, built by buildah from the Dockerfile as it is, and its processes in a container.

Docker's images can't be had everywhere: the base is this machine's Debian packages with its Python.
"""

from __future__ import annotations

import http.client
import os
import re
import resource
import shlex
import shutil
import socket
import subprocess

import pytest

import flowhook

from .conftest import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
[BASE] = set(re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE))
PACKAGES = ["base-files", "ca-certificates", "coreutils", "dash", "grep", "libstdc++6", "passwd", "python3.13-venv"]
ACCOUNTS = ("passwd", "group", "shadow", "gshadow")
BESIDE = ["/usr/bin/sh", "/etc/ssl/certs/ca-certificates.crt", *(f"/etc/{name}" for name in ACCOUNTS)]
LOCKED = re.findall(r"^([\w.-]+)==([^\n]*)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
BASE_FILE = """
FROM scratch
ADD base.tar /
RUN ln -s python3.13 /usr/bin/python && mkdir -p -m 1777 /tmp /var/tmp
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt
"""


def run(*command, **options):
    return subprocess.run(
        [str(each) for each in command], capture_output=True, text=True, timeout=400, check=True, **options
    ).stdout


def files_of_the_base():
    """Return what packages of this machine, and those that they need, installed."""
    unwanted = [f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
    listed = run("apt-cache", "depends", "--recurse", "--installed", *unwanted, *PACKAGES)
    packages = sorted({line for line in listed.splitlines() if line[0] not in " <"})
    paths = {*run("dpkg", "-L", *packages).splitlines(), *BESIDE}
    return sorted(f".{path}" for path in paths if os.path.lexists(path) and "/usr/share/doc/" not in path)


@pytest.fixture(scope="module")
def buildah(tmp_path_factory):
    """A function that runs buildah with a storage of its own."""
    if os.geteuid() or not all(map(shutil.which, ("buildah", "apt-cache", "dpkg", "python3.13"))):
        pytest.skip("needs root and Debian's buildah and netavark")
    folder = tmp_path_factory.mktemp("buildah")
    limits = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}")) for name in ("nofile", "nproc")}
    given = ", ".join(f'"{name}={soft}:{hard}"' for name, (soft, hard) in limits.items())
    (folder / "containers.conf").write_text(f"[containers]\ndefault_ulimits = [{given}]\n")
    environment = os.environ | {"BUILDAH_ISOLATION": "chroot", "CONTAINERS_CONF": str(folder / "containers.conf")}
    options = ["--storage-driver", "overlay", "--root", folder / "storage", "--runroot", folder / "run"]
    yield lambda *arguments: run("buildah", *options, *arguments, env=environment, cwd=folder)
    shutil.rmtree(folder / "storage")


@pytest.fixture(scope="module")
def container(buildah, clone, tmp_path_factory):
    """Build the image, and return a function that runs a command in a container of it."""
    folder = tmp_path_factory.mktemp("base")
    (folder / "Dockerfile").write_text(BASE_FILE)
    (folder / "files").write_text("\n".join(files_of_the_base()))
    run("tar", "-C", "/", "--no-recursion", "-cf", folder / "base.tar", "-T", folder / "files")
    try:
        buildah("build", "--quiet", "--network", "host", "--tag", "base", folder)
    except subprocess.CalledProcessError as error:  # within some containers nothing may be mounted
        pytest.skip(f"buildah can't build even the base here: {error.stderr[-500:]}")
    base = ["--build-context", f"{BASE}=container-image://localhost/base"]
    buildah("build", "--quiet", "--network", "host", "--format", "docker", *base, "--tag", "flowhook", clone)
    name = buildah("from", "localhost/flowhook").strip()

    def execute(command, **environment):
        given = [part for key, value in environment.items() for part in ("--env", f"{key}={value}")]
        return buildah("run", "--network", "host", *given, name, "sh", "-c", command)

    return execute


def test_the_image_has_this_version_and_runs_as_a_user_who_writes_to_data_alone(container):
    assert container("flowhook --version").strip() == flowhook.__version__
    assert container("id -u; id -g").split() == ["10001", "10001"]
    assert container("touch /data/a; touch /opt/flowhook/a 2>/dev/null || ls /data").split() == ["a"]


def test_the_image_holds_the_locked_packages_and_ours_and_nothing_else(container):
    listing = "import importlib.metadata as m; print(*(d.metadata['Name'] for d in m.distributions()))"
    ours = ["flowhook", "flowhook-client"]

    def canonical(names):
        return {re.sub(r"[-_.]+", "-", name).lower() for name in names}

    installed = canonical(container(f'python -I -c "{listing}"').split())
    assert installed <= canonical([*(name for name, _ in LOCKED), *ours])
    assert canonical([*(name for name, condition in LOCKED if ";" not in condition), *ours]) <= installed


def test_the_image_has_neither_what_built_it_nor_the_clone(container):
    assert container("ls /opt /build 2>/dev/null || true").split() == ["/opt:", "flowhook"]


def test_its_cluster_answers_a_webhook_and_its_own_health_check(container):
    with socket.socket() as first, socket.socket() as second, socket.socket() as third:
        for each in (first, second, third):
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in (first, second, third)]
    settings = {f"FLOWHOOK_{name}_PORT": port for name, port in zip(("HTTP", "ADMIN", "GRPC"), ports, strict=True)}
    arguments = shlex.split(re.search(r"^HEALTHCHECK .*\\\n +CMD (.*)", DOCKERFILE, re.MULTILINE)[1])
    check = " ".join(each.replace("${FLOWHOOK_ADMIN_PORT:-8081}", str(ports[1])) for each in arguments)
    request = (
        f"import http.client as h; c = h.HTTPConnection('127.0.0.1', {ports[0]}); "
        "c.request('POST', '/hook/hello', '{}', {'Content-Type': 'application/json'}); print(c.getresponse().status)"
    )
    script = f"""
    flowhook up --flows /opt/flowhook/lib/python*/site-packages/admin/shipped/examples >/data/log 2>&1 & cluster=$!
    until grep -q '^flowhook ready' /data/log; do kill -0 $cluster || exit 1; sleep 0.1; done
    {check} && python -c "{request}"
    kill -TERM $cluster; wait $cluster; echo $?
    """
    assert container(script, **settings).split()[-2:] == [str(http.client.ACCEPTED), "0"]
