"""The configuration of NATS servers: nats-server accepts it, with what Compose and Kubernetes put into it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.deploy_files import DEPLOY, build, services, workloads

CONFIGURATION = DEPLOY / "kustomize" / "overlays" / "nats" / "nats-server.conf"
PASSWORDS = {"NATS_PASSWORD": "n0123", "NATS_ROUTE_PASSWORD": "n4567"}


def compose():
    return services(DEPLOY / "compose" / "nats.yaml", PASSWORDS)["services"]["nats-0"]["environment"]


def kubernetes():
    [nats] = [each for each in workloads(build(CONFIGURATION.parent)) if each.role is None]
    return nats.environment()


def check(environment, configuration=CONFIGURATION):
    command = [Path(sys.executable).with_name("nats-server"), "-t", "-c", configuration]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("environment", [compose, kubernetes])
def test_the_server_accepts_it(environment):
    assert check(environment())[0] == 0


@pytest.mark.parametrize("name", sorted(compose().keys()))
def test_the_server_refuses_it_when_a_variable_is_missing(name):
    environment = {key: value for key, value in compose().items() if key != name}
    code, said = check(environment)

    assert code == 1
    assert f"variable reference for '{name}'" in said


def test_every_write_is_synchronised_and_everybody_who_needs_it_can_see_that():
    text = CONFIGURATION.read_text()

    assert "\n  sync_interval: always\n" in text
    assert "\nhttp: 8222\n" in text
