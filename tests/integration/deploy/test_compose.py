"""The Compose files: services refer to what is there, and to settings that processes have."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import deploy_files
from support.deploy_files import DEPLOY, IMAGE, MODELS, ROOT, services

from admin.app import TOKENS
from cli.commands.up import UpSettings
from cli.options import read_settings
from flowhook.process.settings import read_token
from flowhook.security.tokens import TokenVerifier
from router.storage.encryption import load_secrets_key

FOLDER = DEPLOY / "compose"
VARIABLES = {
    **deploy_files.environment_file(FOLDER / "example.env")[0],
    "NATS_PASSWORD": "p1",
    "NATS_ROUTE_PASSWORD": "p2",
}
EMBEDDED, NATS = (services(FOLDER / name, VARIABLES) for name in ("embedded.yaml", "nats.yaml"))
EVERY = [
    pytest.param(document, name, id=f"{document['name']}-{name}")
    for document in (EMBEDDED, NATS)
    for name in document["services"]
]
ROLES = {name: role for name, each in NATS["services"].items() if (role := each.get("command", [""])[0]) in MODELS}
PROCESSES = pytest.mark.parametrize("name", ROLES)
SERVERS = [name for name, each in NATS["services"].items() if each["image"].startswith("nats:")]


def of_role(role):
    return [name for name in ROLES if ROLES[name] == role]


def mounts(service):
    """Return what is mounted where, and whether it is read-only."""
    parts = [each.split(":") for each in service.get("volumes", [])]
    return {target: (source, options == ["ro"]) for source, target, *options in parts}


def test_the_cluster_has_what_it_says():
    counts = {role: len(of_role(role)) for role in MODELS}

    assert counts == {"router": 2, "edge": 2, "runner": 2, "admin": 1}
    assert len(SERVERS) == 3


@pytest.mark.parametrize(("document", "name"), EVERY)
def test_a_service_refers_to_what_is_there(document, name):
    service = document["services"][name]

    assert set(service.get("networks", [])) <= set(document.get("networks", {}))
    assert set(service.get("depends_on", {})) <= set(document["services"])
    for source, _ in mounts(service).values():
        assert (FOLDER / source).exists() if source.startswith(".") else source in document["volumes"]


@pytest.mark.parametrize(("document", "name"), EVERY)
def test_a_service_is_confined_and_limited(document, name):
    service = document["services"][name]

    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "pids_limit", "restart"} <= service.keys()
    assert service.get("user") == ("0:0" if name == "credentials" else None if document is EMBEDDED else "10001:10001")


def test_no_volume_and_no_network_is_left_over():
    for document in (EMBEDDED, NATS):
        used = {source for each in document["services"].values() for source, _ in mounts(each).values()}
        assert set(document["volumes"]) <= used
        networks = {network for each in document["services"].values() for network in each.get("networks", [])}
        assert networks == set(document.get("networks", {}))


@PROCESSES
def test_every_variable_is_a_setting_of_the_process_that_gets_it(name):
    environment = NATS["services"][name].get("environment", {})

    assert deploy_files.unknown_settings(ROLES[name], environment) == set()
    assert deploy_files.settings_of(ROLES[name], IMAGE | environment).process_name == (
        name if ROLES[name] != "admin" else "admin-1"
    )


@PROCESSES
def test_a_process_drains_before_it_is_killed(name):
    service = NATS["services"][name]
    settings = deploy_files.settings_of(ROLES[name], service["environment"])

    assert int(service["stop_grace_period"].removesuffix("s")) > getattr(settings, "drain_seconds", 0)


@PROCESSES
def test_a_process_is_asked_for_its_health_on_its_port(name):
    service = NATS["services"][name]
    if ROLES[name] in ("edge", "runner"):
        port = deploy_files.settings_of(ROLES[name], service["environment"]).health_port
    else:
        port = deploy_files.listening_port(ROLES[name], IMAGE | service["environment"])
    kind = {"router": "grpc"}.get(ROLES[name], "http")

    asked = service["healthcheck"]["test"][4:6]
    assert service["healthcheck"]["test"][:4] == ["CMD", "python", "-I", "/opt/flowhook/healthcheck.py"]
    assert asked == [kind, str(port)]


def test_senders_reach_edges_and_nobody_reaches_grpc():
    published = {name: each["ports"] for name, each in NATS["services"].items() if "ports" in each}

    assert published.keys() == {*of_role("edge"), *of_role("admin")}
    for name in of_role("edge"):
        port = deploy_files.listening_port("edge", NATS["services"][name]["environment"])
        assert [each.rpartition(":")[2] for each in published[name]] == [str(port)]
    assert published["admin"] == ["127.0.0.1:8081:8081"]


def test_clients_know_the_routers_and_routers_advertise_themselves():
    routers = {f"{name}:50051" for name in of_role("router")}
    clients = [each for each in NATS["services"].values() if "FLOWHOOK_ROUTER" in each.get("environment", {})]

    assert len(clients) == len(ROLES) - len(routers) + 1
    for each in clients:
        assert set(each["environment"]["FLOWHOOK_ROUTER"].split(",")) == routers
        assert "grpc" in each["networks"]
    assert {NATS["services"][name]["environment"]["FLOWHOOK_ADVERTISE"] for name in of_role("router")} == routers


def test_routers_and_nats_servers_know_all_nats_servers_on_a_network_of_their_own():
    expected = {f"{name}:4222" for name in SERVERS}
    for name in of_role("router"):
        storage = NATS["services"][name]["environment"]["FLOWHOOK_STORAGE"]
        assert set(re.fullmatch(r"nats://flowhook:p1@(.*)\?replicas=3", storage)[1].split(",")) == expected
    for name in SERVERS:
        environment = NATS["services"][name]["environment"]
        assert re.findall(r"nats://route:p2@([\w-]+):6222", environment["NATS_ROUTES"]) == SERVERS
        assert environment["NATS_NAME"] == name
    members = {name for name, each in NATS["services"].items() if "log" in each.get("networks", [])}
    assert members == {*of_role("router"), *SERVERS}


def test_the_embedded_cluster_is_started_by_up_with_options_it_has():
    command = EMBEDDED["services"]["flowhook"]["command"]

    assert command == ["up", "--flows", "/flows"]
    assert set(mounts(EMBEDDED["services"]["flowhook"])) == {"/flows", IMAGE["FLOWHOOK_DATA_DIR"]}
    assert int(EMBEDDED["services"]["flowhook"]["stop_grace_period"].removesuffix("s")) >= 4 * 10
    assert read_settings(UpSettings, {})


def test_every_process_gets_the_credentials_it_needs_and_no_others(tmp_path):
    job = NATS["services"]["credentials"]
    targets = {source: target for target, (source, _) in mounts(job).items()}
    assert job["entrypoint"][-1] in targets.values()
    arguments = [each.replace("/credentials/", f"{tmp_path}/") for each in job["command"]]
    command = [sys.executable, DEPLOY / "credentials.py", *arguments]

    for _ in range(2):  # the second time it changes nothing
        subprocess.run(command, check=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True)

    grants = TokenVerifier(tmp_path / "all")
    found = {}
    for name in [*ROLES, "flowhook"]:
        source, read_only = mounts(NATS["services"][name])[IMAGE["FLOWHOOK_DATA_DIR"]]
        folder = Path(targets[source].replace("/credentials/", f"{tmp_path}/"))
        found[name] = {path.name for path in folder.iterdir()}
        role = ROLES.get(name)
        assert read_only is (role != "router")
        if role == "router":
            assert load_secrets_key(folder) == load_secrets_key(tmp_path / "all")
            assert (folder / "tokens.json").read_bytes() == (tmp_path / "all" / "tokens.json").read_bytes()
        else:
            names = TOKENS if role == "admin" else (role or "admin",)
            assert grants.find(read_token(MODELS[role or "admin"](data_dir=folder, token=None), *names))
    assert {name: len(files) for name, files in found.items()} == {
        name: 2 if ROLES.get(name) == "router" else 1 for name in found
    }


def test_a_password_may_not_stay_as_in_the_example():
    given, _ = deploy_files.environment_file(FOLDER / "example.env")

    assert set(given) == set(re.findall(r"\$\{(\w+):\?", (FOLDER / "nats.yaml").read_text()))
