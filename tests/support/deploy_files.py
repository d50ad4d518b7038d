"""The files under deploy/, as kustomize, Compose and systemd read them: as much of these as the files use."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from cli.roles import ROLES

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MODELS = {name: role.settings for name, role in ROLES.items()}
PORTS = {"admin": "admin_port", "edge": "http_port", "router": "grpc_port"}
"""Settings of the ports that roles listen on; a runner listens on nothing."""

TOKENS = {"admin": "view.token", "edge": "edge.token", "runner": "runner.token"}
IMAGE = dict(re.findall(r"(FLOWHOOK_\w+)=(\S+)", (ROOT / "Dockerfile").read_text()))
"""Settings that the image has for all of its processes."""


def unknown_settings(role, environment):
    """Return the variables of an environment that are no settings of a role, though they look like it."""
    names = {f"FLOWHOOK_{name.upper()}" for name in MODELS[role].model_fields}
    return {name for name in environment if name.startswith("FLOWHOOK_")} - names


def settings_of(role, environment):
    """Return the settings that a process of a role gets from an environment; raises if a value is invalid."""
    names = {name.removeprefix("FLOWHOOK_").lower(): value for name, value in environment.items()}
    return MODELS[role](**{name: value for name, value in names.items() if name in MODELS[role].model_fields})


def listening_port(role, environment):
    """Return the port that a process listens on; None for a runner."""
    return getattr(settings_of(role, environment), PORTS[role]) if role in PORTS else None


def documents(path):
    """Return the documents of a YAML file, as plain dictionaries and lists."""
    return [json.loads(json.dumps(each)) for each in YAML(typ="safe").load_all(path.read_text()) if each is not None]


# kustomize


def build(folder):
    """Return the resources of a kustomization: as much of `kustomize build` as deploy/ needs."""
    [spec] = documents(folder / "kustomization.yaml")
    assert spec.keys() <= {
        "apiVersion", "kind", "namespace", "resources", "labels", "images", "configMapGenerator", "patches"
    }  # fmt: skip
    found = []
    for name in spec["resources"]:
        path = (folder / name).resolve()
        found += build(path) if path.is_dir() else documents(path)
    for generator in spec.get("configMapGenerator", []):
        data = dict(literal.split("=", 1) for literal in generator.get("literals", []))
        data |= {name: (folder / name).read_text() for name in generator.get("files", [])}
        if generator.get("behavior") == "merge":
            one(found, "ConfigMap", generator["name"])["data"] |= data
        else:
            found.append({"kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data})
    for patch in spec.get("patches", []):
        for each in documents(folder / patch["path"]):
            target = one(found, each["kind"], each["metadata"]["name"])
            target.update(_merged(target, each))
    return found


def one(resources, kind, name):
    """Return the resource of a kind and a name."""
    [found] = [each for each in resources if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def _merged(old, new):
    """Merge as a strategic merge patch does: lists of things with names by these, other lists as a whole."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {key: _merged(old[key], value) if key in old else value for key, value in new.items()}
    if isinstance(old, list) and isinstance(new, list) and all("name" in each for each in old + new):
        named = {each["name"]: each for each in old}
        return list((named | {each["name"]: _merged(named.get(each["name"], {}), each) for each in new}).values())
    return new


@dataclass(frozen=True)
class Workload:
    """A StatefulSet or Deployment, and where it belongs."""

    name: str
    spec: dict
    resources: list

    @property
    def pod(self):
        return self.spec["template"]["spec"]

    @property
    def labels(self):
        return self.spec["template"]["metadata"]["labels"]

    @property
    def container(self):
        [found] = self.pod["containers"]
        return found

    @property
    def role(self):
        """The role of Flowhook that it runs; None if it is another program."""
        return self.container["args"][0] if self.container["image"] == "flowhook" else None

    def environment(self, container=None):
        """Return the environment of a container; what Kubernetes or a secret fills in is `<name of the source>`.

        Raises if a variable refers to one that is not defined before it, which Kubernetes would leave as it is.
        """
        container = container or self.container
        found = {}
        for source in container.get("envFrom", []):
            found |= one(self.resources, "ConfigMap", source["configMapRef"]["name"])["data"]
        for each in container.get("env", []):
            found[each["name"]] = self._value(each, found)
        return found

    def _value(self, each, before):
        if "value" in each:
            return re.sub(r"\$\((\w+)\)", lambda match: before[match[1]], each["value"])
        [(kind, source)] = each["valueFrom"].items()
        if kind == "fieldRef":
            assert source == {"fieldPath": "metadata.name"}
            return f"{self.name}-0"
        return f"secret-{source['key']}"


def workloads(resources):
    """Return the workloads among resources."""
    return [
        Workload(each["metadata"]["name"], each["spec"], resources)
        for each in resources
        if each["kind"] in ("StatefulSet", "Deployment")
    ]


# Compose


def services(path, variables):
    """Return the services of a Compose file, with its variables filled in."""
    [document] = documents(path)
    return json.loads(_interpolated(json.dumps(document), variables))


def _interpolated(text, variables):
    def value(match):
        name, _, default = match[1].partition(":-")
        return variables.get(name.partition(":?")[0], default)

    return re.sub(r"\$\{([^}]*)\}", value, text)


# systemd


def unit(path):
    """Return the settings of a unit by section: each a list of values, in order."""
    sections, section = {}, None
    for line in path.read_text().splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = sections.setdefault(match[1], {})
        elif line and not line.startswith("#"):
            name, separator, value = line.partition("=")
            assert separator, line
            section.setdefault(name, []).append(value)
    return sections


def environment_file(path):
    """Return the variables that a file sets, and those that it shows commented out."""
    lines = path.read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    shown = dict(line[1:].split("=", 1) for line in lines if re.match(r"#\w+=", line))
    return given, shown
