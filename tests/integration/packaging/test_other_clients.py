"""The npm package, as it is released: what is in it, its types, and its calls; and what buf generates."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from support.patience import PATIENCE
from support.routers import running_router
from support.served import running_runner

import flowhook

from .conftest import ROOT

README = (ROOT / "clients" / "node" / "README.md").read_text()
[EXAMPLE] = re.findall(r"^```javascript\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
MORE = """
import { reasonOf } from "flowhook-client";
const other = connect(process.env.FLOWHOOK_ROUTER, { token: process.env.FLOWHOOK_TOKEN });
const { results } = await other.IngestService.IngestEvents({ events: [{ ...event, flow_id: "nobody" }] });
console.log(results[0].rejected?.reason);
const gone = await other.IngestService.InvokeFlow({ event: { ...event, flow_id: "nobody" } }).catch(reasonOf);
console.log(gone);
for await (const { results } of (() => {
  const stream = other.IngestService.client.StreamEvents(other.IngestService.metadata);
  stream.write({ request_id: "1", events: [event] });
  stream.end();
  return stream;
})()) console.log(results.length);
other.close();
"""
PLUGIN = """
import sys
from google.protobuf.compiler import plugin_pb2 as p
asked, answer = p.CodeGeneratorRequest.FromString(sys.stdin.buffer.read()), p.CodeGeneratorResponse()
answer.supported_features = 1
files = [f for f in asked.proto_file if f.name in asked.file_to_generate]
lines = [f"{f.name} {f.options.go_package} {f.options.java_package}" for f in files]
answer.file.add(name="asked", content="\\n".join(lines))
sys.stdout.buffer.write(answer.SerializeToString())
"""
TYPED = """
import { connect } from "flowhook-client";
const flowhook = connect("127.0.0.1:1", { token: "" });
const { reply } = await flowhook.IngestService.InvokeFlow({ event: { flow_id: "hello" }, max_wait: { seconds: 30 } });
export const status: number | undefined = reply?.status;
"""


def run(*command, folder):
    return subprocess.run(
        [str(each) for each in command], cwd=folder, check=False, capture_output=True, text=True, timeout=200
    )


@pytest.fixture(scope="module")
def compiler(clone):
    """The TypeScript compiler that clients/node is built with."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("there is no node, or no npm")
    folder = clone / "clients" / "node"
    if run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", folder=folder).returncode:
        pytest.skip("npm can't install the packages")
    return folder / "node_modules" / ".bin" / "tsc"


@pytest.fixture(scope="module")
def package(clone, compiler, tmp_path_factory):
    """The package as npm packs it."""
    built = tmp_path_factory.mktemp("package")
    done = run("sh", clone / "clients" / "node" / "build.sh", built, folder=clone)
    assert (done.returncode, done.stderr) == (0, "")
    done = run("npm", "pack", "--json", "--pack-destination", built, folder=built)
    assert done.returncode == 0, done.stderr
    [packed] = json.loads(done.stdout)
    return built / packed["filename"], {each["path"] for each in packed["files"]}


@pytest.fixture(scope="module")
def project(package, tmp_path_factory):
    """A project of somebody who has installed the package."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    done = run("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", package[0], folder=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_it_has_the_protos_and_types_of_every_service_for_users_and_the_version(package):
    file, names = package
    protos = {path.name for path in (ROOT / "protos" / "flowhook" / "v1").glob("*_service.proto")}
    internal = {"runner_service.proto", "shard_service.proto"}

    assert file.name == f"flowhook-client-{flowhook.__version__}.tgz"
    assert {Path(name).name for name in names if name.endswith("_service.proto")} == protos - internal
    assert {"LICENSE", "README.md", "index.js", "index.d.ts", "types/flowhook/v1/IngestService.d.ts"} <= names
    assert not [name for name in names if "node_modules" in name or name.endswith(".sh")]


@pytest.mark.parametrize(("change", "message"), [(("", ""), ""), (("flow_id", "flowId"), "'flow_id'")])
def test_its_types_find_a_mistake_and_no_other(project, compiler, change, message):
    (project / "typed.mts").write_text(TYPED.replace(*change) if change[0] else TYPED)
    types = ["--typeRoots", compiler.parents[1] / "@types", "--types", "node"]
    types += ["--skipLibCheck"] if message else []  # the package's own types are checked once
    done = run(compiler, "--noEmit", "--strict", "--module", "nodenext", *types, "typed.mts", folder=project)
    assert bool(done.returncode) is bool(message)
    assert message in done.stdout


async def test_its_calls_reach_a_cluster_and_tell_why_one_failed(project, tmp_path):
    (project / "program.js").write_text(EXAMPLE + MORE)
    async with (
        running_router(tmp_path / "data") as router,
        router.client() as client,
        running_runner(router, "runner-1"),
    ):
        await client.flows.apply([(ROOT / "examples/hello.yaml").read_bytes()])
        reported = {"FLOWHOOK_ROUTER": router.target, "FLOWHOOK_TOKEN": router.token()}
        process = await asyncio.create_subprocess_exec(
            "node",
            "program.js",
            cwd=project,
            env=os.environ | reported,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(PATIENCE):
            output, _ = await process.communicate()
    assert output.decode().splitlines() == ["200 Hello, Ada!", "FLOW_NOT_FOUND", "FLOW_NOT_FOUND", "1"]


def test_buf_asks_the_plugins_for_go_and_java_for_every_proto_by_the_configuration(tmp_path):
    """The plugins come from a registry: one of this test stands in for them, and tells what it is asked."""
    configuration = YAML(typ="safe", pure=True).load(ROOT / "protos" / "buf.gen.yaml")
    assert {each["remote"].split("/", 1)[1] for each in configuration["plugins"]} == {
        f"{author}/{language}" for author in ("protocolbuffers", "grpc") for language in ("go", "java")
    }
    plugin = [sys.executable, "-c", PLUGIN]
    configuration["plugins"] = [{"local": plugin, "out": str(tmp_path), "strategy": "all"}]
    template = tmp_path / "buf.gen.json"
    template.write_text(json.dumps(configuration))
    done = run(Path(sys.executable).with_name("buf"), "generate", "--template", template, folder=ROOT / "protos")
    assert done.returncode == 0, done.stderr
    asked = [line.split() for line in (tmp_path / "asked").read_text().splitlines()]
    ingest = ["example.com/your/module/gen/flowhook/v1;flowhookv1", "com.flowhook.v1"]
    assert ["flowhook/v1/ingest_service.proto", *ingest] in asked
    assert len(asked) == len([*(ROOT / "protos").rglob("*.proto")])
