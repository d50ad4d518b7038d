"""The systemd units: one for each role, with settings that it has, drained in time, and confined."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import deploy_files
from support.deploy_files import DEPLOY, MODELS, TOKENS

FOLDER = DEPLOY / "systemd"
UNITS = {"admin": "flowhook-admin", "edge": "flowhook-edge", "router": "flowhook-router", "runner": "flowhook-runner@"}
ROLES = pytest.mark.parametrize("role", UNITS)
PROGRAM = "/opt/flowhook/bin/flowhook"
EXPOSURE = 20
"""Most points of 100 that `systemd-analyze security` may give; a service without any of these settings gets 96."""


def service(role):
    return deploy_files.unit(FOLDER / f"{UNITS[role]}.service")


def environment(role):
    """Return the variables of a unit and of its file, with the specifiers filled in."""
    values = {"%H": "host", "%i": "1", "%d": "/run/credentials/unit"}
    lines = dict(line.split("=", 1) for line in service(role)["Service"]["Environment"])
    given, shown = deploy_files.environment_file(FOLDER / f"{role}.env")
    found = lines | given | shown
    return {name: re.sub("%.", lambda match: values[match[0]], value) for name, value in found.items()}


def test_there_is_a_unit_for_each_role_and_a_target_for_all():
    assert {path.name for path in FOLDER.glob("flowhook*.*")} == {
        *(f"{name}.service" for name in UNITS.values()),
        "flowhook.target",
        "flowhook.sysusers.conf",
    }
    assert UNITS.keys() == MODELS.keys()


@ROLES
def test_every_variable_is_a_setting_of_the_process_that_gets_it(role):
    assert deploy_files.unknown_settings(role, environment(role)) == set()
    assert deploy_files.settings_of(role, environment(role))


@ROLES
def test_a_unit_runs_its_role_and_reads_its_file(role):
    section = service(role)["Service"]

    assert section["ExecStart"] == [f"{PROGRAM} {role}"]
    assert section["EnvironmentFile"] == [f"-/etc/flowhook/{role}.env"]
    assert (FOLDER / f"{role}.env").read_text().startswith(f"# /etc/flowhook/{role}.env")
    assert service(role)["Install"]["WantedBy"] == service(role)["Unit"]["PartOf"] == ["flowhook.target"]


@ROLES
def test_a_process_is_started_again_for_ever_and_has_time_to_drain(role):
    section = service(role)["Service"]
    settings = deploy_files.settings_of(role, environment(role))

    assert section["Restart"] == ["always"]
    assert service(role)["Unit"]["StartLimitIntervalSec"] == ["0"]
    assert float(section["TimeoutStopSec"][0]) > getattr(settings, "drain_seconds", 0)


@ROLES
def test_a_process_reads_its_own_token_only(role):
    section, settings = service(role)["Service"], deploy_files.settings_of(role, environment(role))

    if role == "router":
        assert "LoadCredential" not in section
        assert settings.data_dir == Path("/var/lib") / section["StateDirectory"][0]
        assert f"u {section['User'][0]} - " in (FOLDER / "flowhook.sysusers.conf").read_text()
    else:
        assert section["LoadCredential"] == [f"{TOKENS[role]}:/etc/flowhook/{TOKENS[role]}"]
        assert settings.data_dir == Path("/run/credentials/unit")
        assert section["DynamicUser"] == ["true"]


def test_a_runner_may_use_what_flows_can_start():
    # node, which runs scripts, writes code into its memory
    assert [role for role in UNITS if "MemoryDenyWriteExecute" not in service(role)["Service"]] == ["runner"]
    assert service("runner")["Service"]["OOMPolicy"] == ["continue"]


def test_processes_stop_in_the_order_edge_runner_router():
    # units stop in the reverse of the order in which they start
    assert "flowhook-router.service" in service("runner")["Unit"]["After"][0].split()
    assert service("runner")["Unit"]["Before"] == ["flowhook-edge.service"]


@pytest.fixture
def units(tmp_path):
    """The units, with a program that exists."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze")
    for path in [*FOLDER.glob("*.service"), *FOLDER.glob("*.target")]:
        text = path.read_text().replace(PROGRAM, str(Path(sys.executable).with_name("flowhook")))
        (tmp_path / path.name.replace("@.", "@1.")).write_text(text)
    return sorted(tmp_path.iterdir())


def test_systemd_understands_every_line(units):
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_finds_processes_confined(units):
    for path in units:
        if path.suffix == ".service":
            command = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE}", path]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout.splitlines()[-1]
