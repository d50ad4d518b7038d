"""The Dockerfile agrees with what the repository says elsewhere. Nothing is built here."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from flowhook.process.settings import AdminSettings, EdgeSettings, RouterSettings

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_image_has_a_python_that_make_would_take():
    images = set(re.findall(r"^FROM python:(\d+\.\d+)\.\d+-slim@sha256:[0-9a-f]{64}\b", DOCKERFILE, re.MULTILINE))
    fit = re.search(r'^versions="(.*)"$', (ROOT / "install" / "python.sh").read_text(), re.MULTILINE)[1].split()

    assert len(images) == 1
    assert images <= set(fit)


def test_the_image_exposes_the_ports_that_processes_listen_on():
    exposed = re.search(r"^EXPOSE (.*)$", DOCKERFILE, re.MULTILINE)[1].split()
    ports = [
        EdgeSettings.model_fields["http_port"].default,
        AdminSettings.model_fields["admin_port"].default,
        RouterSettings.model_fields["grpc_port"].default,
    ]

    assert exposed == [str(port) for port in ports]
    assert f'http "${{FLOWHOOK_ADMIN_PORT:-{ports[1]}}}" /readyz' in DOCKERFILE


def test_what_is_installed_gets_into_the_build_and_nothing_else_does():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line.removeprefix("!/") for line in lines if line.startswith("!")}
    sources = {path.split("/")[1] for path in PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]}
    locks = set(re.findall(r"^COPY (\S+\.lock) \./$", DOCKERFILE, re.MULTILINE))

    assert "*" in lines
    assert len(locks) == 2
    copied = set(re.findall(r"install -m 0644 (\S+) /opt/", DOCKERFILE))
    [others] = re.findall(r"--no-build-isolation \.((?: \./\S+)*)", DOCKERFILE)  # distributions beside this one
    assert let_in == {*sources, *locks, *copied, *re.findall(r"\./(\S+)", others), "pyproject.toml"}
    assert [name for name in let_in if not (ROOT / name).exists()] == []


def test_the_image_does_not_run_as_root():
    [user] = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)

    assert user == (re.search(r"--uid (\d+)", DOCKERFILE)[1], re.search(r"--gid (\d+)", DOCKERFILE)[1])
    assert "0" not in user


def test_both_stages_are_of_one_image_that_nobody_can_replace():
    images = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)

    assert len(images) == 2
    assert len(set(images)) == 1
    assert re.fullmatch(r"python:[\w.-]+@sha256:[0-9a-f]{64}", images[0])
