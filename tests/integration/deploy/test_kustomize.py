"""The manifests of Kubernetes: they refer to what is there, and to settings that processes have."""

from __future__ import annotations

import os
import re
import textwrap
import tomllib

import pytest
from support import deploy_files
from support.deploy_files import DEPLOY, IMAGE, ROOT, TOKENS, Workload, build, one, workloads

import flowhook
from flowhook.process.settings import RouterSettings

FOLDER = DEPLOY / "kustomize"
BASE, NATS = build(FOLDER / "base"), build(FOLDER / "overlays" / "nats")
EVERY = [
    pytest.param(each, id=f"{name}-{each.name}")
    for name, resources in (("base", BASE), ("nats", NATS))
    for each in workloads(resources)
]
OURS = [each for each in EVERY if each.values[0].role]
BOTH = pytest.mark.parametrize("resources", [BASE, NATS], ids=["base", "nats"])
PAGE = (ROOT / "docs" / "deploying.md").read_text()
YAML = sorted(FOLDER.rglob("*.yaml"))


def containers(workload):
    return [*workload.pod.get("initContainers", []), *workload.pod["containers"]]


def selected(resources, selector):
    """Return the workloads whose pods have the labels of a selector."""
    return [each for each in workloads(resources) if selector.items() <= each.labels.items()]


def address(resources, target):
    """Return the workload and the port of its container that `host:port` leads to, by its service."""
    host, _, port = target.rpartition(":")
    name = host.rpartition(".")[2]
    service = one(resources, "Service", name)["spec"]
    [workload] = selected(resources, service["selector"])
    [entry] = [each for each in service["ports"] if each["port"] == int(port)]
    [found] = [each for each in workload.container["ports"] if each["name"] == entry["targetPort"]]
    if "." in host:  # a pod of a StatefulSet
        assert workload.spec["serviceName"] == name
        assert service["clusterIP"] == "None"
        assert host.partition(".")[0] in {f"{workload.name}-{each}" for each in range(workload.spec["replicas"])}
    return workload, found["containerPort"]


def kinds(resources, kind):
    return [each for each in resources if each["kind"] == kind]


def test_every_file_is_part_of_a_kustomization():
    named = set()
    for path in FOLDER.rglob("kustomization.yaml"):
        [spec] = deploy_files.documents(path)
        names = [*spec["resources"], *(patch["path"] for patch in spec.get("patches", []))]
        names += [name for each in spec.get("configMapGenerator", []) for name in each.get("files", [])]
        named |= {(path.parent / name).resolve() for name in names}
    files = {path.resolve() for path in FOLDER.rglob("*") if path.is_file() and path.name != "kustomization.yaml"}

    assert {path for path in named if path.is_file()} == files


def test_prometheus_operator_gets_the_rules_of_prometheus():
    path, rules = FOLDER / "components/monitoring/prometheus-rule.yaml", DEPLOY / "prometheus/alerts.yaml"
    head, spec, _ = path.read_text().partition("spec:\n")
    whole = head + spec + textwrap.indent(rules.read_text().partition("\ngroups:")[2].join(("groups:", "")), "  ")
    if os.environ.get("FLOWHOOK_RENEW_DOCS"):
        path.write_text(whole)
    assert path.read_text() == whole, "renew it with FLOWHOOK_RENEW_DOCS=1"


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.relative_to(FOLDER).as_posix())
def test_no_number_is_an_octal_one(path):
    # 0440 is 288 for Kubernetes, and 440 for a reader of YAML 1.2
    assert not re.search(r": 0\d+\b", path.read_text())


@BOTH
def test_all_roles_are_there(resources):
    assert {each.role for each in workloads(resources)} - {None} == set(deploy_files.MODELS)


@pytest.mark.parametrize("workload", OURS)
def test_every_variable_is_a_setting_of_the_process_that_gets_it(workload):
    environment = IMAGE | workload.environment()

    assert deploy_files.unknown_settings(workload.role, workload.environment()) == set()
    assert deploy_files.settings_of(workload.role, environment)


@pytest.mark.parametrize("workload", OURS)
def test_a_process_listens_on_the_port_of_its_container(workload):
    environment = IMAGE | workload.environment()
    ports = [
        deploy_files.listening_port(workload.role, environment),
        deploy_files.settings_of(workload.role, environment).health_port,
    ]

    assert [each["containerPort"] for each in workload.container["ports"]] == [port for port in ports if port]


@pytest.mark.parametrize("workload", OURS)
def test_a_process_has_its_own_token_and_no_other(workload):
    [source] = [each["secret"] for each in workload.pod["volumes"] if "secret" in each]
    files = [item["path"] for item in source["items"]]
    mounts = {each["name"]: each["mountPath"] for each in workload.container["volumeMounts"]}

    if workload.role == "router":
        assert files == ["tokens.json"]
        assert "credentials" not in mounts
    else:
        assert files == [TOKENS[workload.role]]
        assert mounts["token"] == (IMAGE | workload.environment())["FLOWHOOK_DATA_DIR"]


@pytest.mark.parametrize("workload", EVERY)
def test_every_container_is_confined_and_limited(workload):
    assert workload.pod["securityContext"]["runAsNonRoot"]
    assert workload.pod["securityContext"]["runAsUser"] == 10001
    assert workload.pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert workload.pod["automountServiceAccountToken"] is False
    for container in containers(workload):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize("workload", EVERY)
def test_every_process_that_listens_is_probed(workload):
    container = workload.container
    probes = {name: container[name] for name in container if name.endswith("Probe")}
    ports = {
        key: each["containerPort"]
        for each in container.get("ports", [])
        for key in (each["name"], each["containerPort"])
    }

    assert {"readinessProbe", "livenessProbe"} <= probes.keys()
    for probe in probes.values():
        [handler] = probe.keys() & {"grpc", "httpGet", "tcpSocket"}
        assert probe[handler]["port"] in ports


@BOTH
def test_a_router_is_ready_when_its_grpc_health_says_so(resources):
    [router] = [each for each in workloads(resources) if each.role == "router"]
    port = RouterSettings.model_fields["grpc_port"].default

    assert router.container["readinessProbe"]["grpc"] == {"port": port}
    assert router.container["startupProbe"]["grpc"] == {"port": port}


@pytest.mark.parametrize("workload", OURS)
def test_something_reaps_processes_whose_parent_has_ended(workload):
    assert workload.pod["shareProcessNamespace"] is True


@pytest.mark.parametrize("workload", OURS)
def test_a_pod_has_time_to_drain(workload):
    settings = deploy_files.settings_of(workload.role, workload.environment())
    before = workload.container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])

    assert workload.pod["terminationGracePeriodSeconds"] > float(before[1]) + getattr(settings, "drain_seconds", 0)


@pytest.mark.parametrize("workload", EVERY)
def test_every_volume_is_mounted_and_every_mount_has_a_volume(workload):
    claims = [each["metadata"]["name"] for each in workload.spec.get("volumeClaimTemplates", [])]
    volumes = claims + [each["name"] for each in workload.pod["volumes"]]
    mounts = {each["name"] for container in containers(workload) for each in container["volumeMounts"]}

    assert sorted(volumes) == sorted(mounts)


@BOTH
def test_a_router_writes_to_its_volume_only(resources):
    [router] = [each for each in workloads(resources) if each.role == "router"]
    settings = deploy_files.settings_of("router", router.environment())
    [data] = [each for each in router.container["volumeMounts"] if each["name"] == "data"]
    [init] = router.pod["initContainers"]

    assert settings.data_dir.is_relative_to(data["mountPath"])
    assert f"/credentials/tokens.json {settings.data_dir}/" in init["command"][-1]
    assert not data.get("readOnly")


@BOTH
def test_selectors_match_pods(resources):
    for workload in workloads(resources):
        assert workload.spec["selector"]["matchLabels"].items() <= workload.labels.items()
        for each in workload.pod.get("topologySpreadConstraints", []):
            assert selected(resources, each["labelSelector"]["matchLabels"]) == [workload]
    for service in kinds(resources, "Service"):
        [workload] = selected(resources, service["spec"]["selector"])
        ports = {each["name"] for each in workload.container["ports"]} - {"health"}  # private
        assert {each["targetPort"] for each in service["spec"]["ports"]} == ports
    for budget in kinds(resources, "PodDisruptionBudget"):
        [workload] = selected(resources, budget["spec"]["selector"]["matchLabels"])
        assert workload.name == budget["metadata"]["name"]
        assert budget["spec"]["maxUnavailable"] == 1


@BOTH
def test_only_what_stands_alone_has_no_disruption_budget(resources):
    budgets = {each["metadata"]["name"] for each in kinds(resources, "PodDisruptionBudget")}

    assert {each.name for each in workloads(resources)} - budgets == {"flowhook-admin"}


@BOTH
def test_every_pod_has_a_network_policy_of_its_own_that_names_pods_and_ports_that_exist(resources):
    policies = {}
    for policy in kinds(resources, "NetworkPolicy"):
        [workload] = selected(resources, policy["spec"]["podSelector"]["matchLabels"])
        policies[workload.name] = policy["spec"]
        ports = {each["name"] for each in workload.container.get("ports", [])}
        for rule in policy["spec"].get("ingress", []):
            assert {each["port"] for each in rule["ports"]} <= ports
            pods = [each["podSelector"]["matchLabels"] for each in rule.get("from", []) if "podSelector" in each]
            assert [each for each in pods if "flowhook.dev/client" not in each and not selected(resources, each)] == []

    assert policies.keys() == {each.name for each in workloads(resources)}


@BOTH
def test_grpc_is_open_to_processes_of_flowhook_only_and_nats_to_routers_only(resources):
    def allowed(name, port):
        rules = one(resources, "NetworkPolicy", name)["spec"]["ingress"]
        found = [each for rule in rules if {"port": port} in rule["ports"] for each in rule["from"]]
        labels = [each["podSelector"]["matchLabels"] for each in found]
        return {workload.role for each in labels for workload in selected(resources, each)}

    assert allowed("flowhook-router", "grpc") == {"edge", "runner", "admin", "router"}
    if resources is NATS:
        assert allowed("flowhook-nats", "client") == allowed("flowhook-nats", "monitor") == {"router"}
        assert allowed("flowhook-nats", "route") == {None}


@BOTH
def test_clients_know_the_routers(resources):
    [router] = [each for each in workloads(resources) if each.role == "router"]
    targets = one(resources, "ConfigMap", "flowhook-clients")["data"]["FLOWHOOK_ROUTER"].split(",")
    port = deploy_files.listening_port("router", router.environment())

    assert [address(resources, target) for target in targets] == [(router, port)] * router.spec["replicas"]
    assert len(set(targets)) == len(targets)


def test_a_router_of_several_advertises_an_address_that_clients_know():
    [router] = [each for each in workloads(NATS) if each.role == "router"]
    targets = one(NATS, "ConfigMap", "flowhook-clients")["data"]["FLOWHOOK_ROUTER"].split(",")

    assert router.environment()["FLOWHOOK_ADVERTISE"] == targets[0]


def test_routers_and_nats_servers_know_all_nats_servers():
    [router] = [each for each in workloads(NATS) if each.role == "router"]
    [nats] = [each for each in workloads(NATS) if each.role is None]
    storage = router.environment()["FLOWHOOK_STORAGE"]
    user, hosts, replicas = re.fullmatch(r"nats://(\w+):secret-password@([^?]+)\?replicas=(\d)", storage).groups()
    routes = re.findall(r"nats://route:secret-route-password@([^,\]]+)", nats.environment()["NATS_ROUTES"])
    configuration = one(NATS, "ConfigMap", "flowhook-nats")["data"]["nats-server.conf"]

    assert f"user: {user}," in configuration
    assert int(replicas) == nats.spec["replicas"] == len(set(hosts.split(",")))
    assert [address(NATS, each) for each in hosts.split(",")] == [(nats, 4222)] * 3
    assert [address(NATS, each) for each in routes] == [(nats, 6222)] * 3
    assert address(NATS, "flowhook-nats:8222") == (nats, 8222)


def test_a_nats_server_has_time_to_be_a_lame_duck():
    [nats] = [each for each in workloads(NATS) if each.role is None]
    configuration = one(NATS, "ConfigMap", "flowhook-nats")["data"]["nats-server.conf"]
    seconds = [int(each) for each in re.findall(r"^lame_duck_\w+: (\d+)s$", configuration, re.MULTILINE)]
    pid = re.search(r'^pid_file: "(.*)"$', configuration, re.MULTILINE)[1]

    assert len(seconds) == 2
    assert nats.pod["terminationGracePeriodSeconds"] > sum(seconds)
    assert nats.container["lifecycle"]["preStop"]["exec"]["command"] == ["nats-server", "-sl", f"ldm={pid}"]


def test_images_have_the_versions_of_this_repository():
    [spec] = deploy_files.documents(FOLDER / "base" / "kustomization.yaml")
    [nats] = [each for each in workloads(NATS) if each.role is None]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [tested] = project["optional-dependencies"]["nats"]

    assert [(each["name"], each["newTag"]) for each in spec["images"]] == [("flowhook", flowhook.__version__)]
    assert nats.container["image"] == f"nats:{tested.partition('==')[2]}-alpine"


@BOTH
def test_the_page_says_how_to_create_every_secret(resources):
    keys = set()
    for workload in workloads(resources):
        for each in workload.pod["volumes"]:
            if "secret" in each:
                keys |= {(each["secret"]["secretName"], item["key"]) for item in each["secret"]["items"]}
        for container in containers(workload):
            sources = [each.get("valueFrom", {}).get("secretKeyRef") for each in container.get("env", [])]
            keys |= {(source["name"], source["key"]) for source in sources if source}
    told = {
        (name, key)
        for name, options in re.findall(r"create secret generic (\S+) ((?:.*\\\n)*.*)", PAGE)
        for key in re.findall(r"--from-(?:file=(?:\S*/)?|literal=)([\w.-]+)", options)
    }

    assert keys
    assert keys <= told


def test_a_variable_that_is_used_before_it_is_defined_is_found():
    env = [{"name": "A", "value": "$(B)"}, {"name": "B", "value": "b"}]

    with pytest.raises(KeyError, match="B"):
        Workload("w", {}, []).environment({"env": env})
