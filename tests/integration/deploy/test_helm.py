"""The Helm chart: rendered by Helm, it has the objects that kustomize builds, with what the values change."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from ruamel.yaml import YAML
from support.deploy_files import DEPLOY, documents
from support.tools import tool

import flowhook

IMAGE = {"image": {"repository": "registry.example.com/flowhook"}}
RENDER = """
import json, sys, helm_python as helm
with helm.Chart.load(sys.argv[1]) as chart:
    values = json.loads(sys.argv[2])
    chart.validate_schema(values)
    found = chart.render(values, name="test", namespace="flowhook")
    print(*(text for name, text in found.items() if name.endswith(".yaml")), sep="\\n---\\n")
"""
PACKAGE = """
import sys, helm_python as helm
print(*helm.lint(sys.argv[1])["errors"], helm.package(sys.argv[1], destination=sys.argv[2]))
"""
KUSTOMIZATIONS = {"embedded": "base", "nats": "overlays/nats"}


def kustomized(storage):
    command = ["kustomize", "build", str(DEPLOY / "kustomize" / KUSTOMIZATIONS[storage])]
    return parsed(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def parsed(text):
    documents = [json.loads(json.dumps(each)) for each in YAML(typ="safe").load_all(text) if each]
    return {(each["kind"], each["metadata"]["name"]): each for each in documents}


@pytest.fixture(scope="module")
def chart(tmp_path_factory):
    if not shutil.which("kustomize"):
        pytest.skip("no kustomize")
    folder = tmp_path_factory.mktemp("chart")
    subprocess.run([DEPLOY / "helm" / "package.sh", folder], check=True)
    return folder / "flowhook"


@pytest.fixture
def rendered(chart):
    return lambda values: parsed(tool("python", "-c", RENDER, chart, json.dumps(values)))


@pytest.mark.parametrize("storage", KUSTOMIZATIONS)
def test_it_renders_to_the_objects_of_kustomize(rendered, storage):
    found = rendered(IMAGE | {"storage": storage})
    wanted = kustomized(storage)
    del wanted["Namespace", "flowhook"]  # of the release, which may be there before
    for each in found.values():
        for container in each.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
            container.pop("imagePullPolicy", None)
        for container in each.get("spec", {}).get("template", {}).get("spec", {}).get("initContainers", []):
            container.pop("imagePullPolicy", None)

    assert found == wanted


def test_its_objects_are_valid_by_the_schemas_of_kubernetes(rendered, tmp_path):
    path = tmp_path / "objects.yaml"
    path.write_text("\n---\n".join(map(json.dumps, rendered(IMAGE | {"storage": "nats"}).values())))
    for version in ("1.30", "1.37"):
        tool("kubernetes-validate", "--strict", "--kubernetes-version", version, path)


def test_values_change_what_they_name_and_nothing_else(rendered):
    before = rendered(IMAGE | {"storage": "nats"})
    edge = {"replicas": 5, "env": {"FLOWHOOK_LOG_LEVEL": "debug"}, "nodeSelector": {"disk": "ssd"}}
    edge["resources"] = {"limits": {"memory": "2Gi"}}
    after = rendered(
        {
            "storage": "nats",
            "image": {"repository": "elsewhere/flowhook", "tag": "2.0"},
            "imagePullSecrets": [{"name": "registry"}],
            "edge": edge,
            "router": {"volume": {"size": "99Gi", "storageClass": "fast"}},
        }
    )
    pod = after["Deployment", "flowhook-edge"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    [claim] = after["StatefulSet", "flowhook-router"]["spec"]["volumeClaimTemplates"]

    assert {key for key in before if before[key] != after[key]} == {
        *(("Deployment", f"flowhook-{name}") for name in ("admin", "edge", "runner")),
        *(("StatefulSet", f"flowhook-{name}") for name in ("nats", "router")),
    } & set(before)
    assert after["Deployment", "flowhook-edge"]["spec"]["replicas"] == 5
    assert container["image"] == "elsewhere/flowhook:2.0"
    assert container["env"][-1] == {"name": "FLOWHOOK_LOG_LEVEL", "value": "debug"}
    assert container["resources"]["limits"]["memory"] == "2Gi"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["nodeSelector"] == {"disk": "ssd"}
    assert claim["spec"]["resources"]["requests"]["storage"] == "99Gi"
    assert claim["spec"]["storageClassName"] == "fast"


@pytest.mark.parametrize(
    "values",
    [{}, {"storage": "mysql"}, {"router": {"replicas": 2}}, {"edge": {"volume": {}}}, {"edge": {"replica": 2}}],
)
def test_values_that_would_do_nothing_or_harm_are_refused(rendered, values):
    with pytest.raises(AssertionError, match=r"helm_python\.errors\."):
        rendered((IMAGE if values else {}) | values)


def test_what_prometheus_operator_needs_is_rendered_if_it_is_wanted(rendered):
    plain, monitored = rendered(IMAGE), rendered(IMAGE | {"monitoring": True})
    added = {key: monitored[key] for key in monitored.keys() - plain.keys()}
    [monitor] = documents(DEPLOY / "kustomize" / "components" / "monitoring" / "service-monitor.yaml")
    [rules] = documents(DEPLOY / "prometheus" / "alerts.yaml")

    assert plain.items() <= monitored.items()
    assert added.keys() == {("ServiceMonitor", "flowhook"), ("PrometheusRule", "flowhook")}
    assert added["ServiceMonitor", "flowhook"]["spec"] == monitor["spec"]
    assert added["PrometheusRule", "flowhook"]["spec"] == rules
    assert {each["metadata"]["namespace"] for each in added.values()} == {"flowhook"}


def test_the_monitor_finds_admin_and_names_the_job_of_the_rules(rendered):
    monitor = rendered(IMAGE | {"monitoring": True})["ServiceMonitor", "flowhook"]["spec"]
    found = [
        each
        for (kind, _), each in rendered(IMAGE).items()
        if kind == "Service" and monitor["selector"]["matchLabels"].items() <= each["metadata"]["labels"].items()
    ]
    [service] = found

    assert service["metadata"]["name"] == "flowhook-admin"
    assert {each["port"] for each in monitor["endpoints"]} == {each["name"] for each in service["spec"]["ports"]}
    assert service["metadata"]["labels"][monitor["jobLabel"]] == "flowhook"


def test_helm_packages_it_without_complaint(chart, tmp_path):
    assert tool("python", "-c", PACKAGE, chart, tmp_path).split() == [f"{tmp_path}/flowhook-{flowhook.__version__}.tgz"]
