"""Record the data directory of an earlier version, as a crash left it, for `test_upgrade`.

    git worktree add /tmp/earlier COMMIT && make -C /tmp/earlier setup codegen
    python3 tests/e2e/recorded/record.py /tmp/earlier tests/e2e/recorded/format-N.tar.xz

It really runs that version (`flowhook up`): senders, operators and a service that flows call, on `WORLD`. When every
execution is where it shall be, all processes are killed with -9, and the data directory is packed as it is: database
with its write-ahead log, keys, blobs.

The archive's `recorded.json` says what is in it: IDs of executions by what they wait for, and URLs. Ports are not
recorded; the service's address is, because flows name it. Standard library only: it needs nothing of either version.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

WORLD = ("127.77.3.7", 18077)
"""Address that the recorded flows call: of the loopback network, and used by nothing else."""

HEAD = "document: {{dsl: 1.0.3, namespace: default, name: {name}, version: 1.0.0}}\n"
URL = f"http://{WORLD[0]}:{WORLD[1]}"
MIB = 1 << 20
WAIT = "wait: {seconds: 150}"

FLOWS = {
    "hello": """
webhook: {auth: none, dedupe: {key: "${ .body.delivery }", window: P7D}}
execution: {search: {order: .body.order}}
do:
- greet: {set: {hello: "${ .body.name }"}}
""",
    "faults": """
webhook: {auth: none}
do:
- repaired: {set: {before: "${ .body.number }"}}
- look:
    call: http
    with: {method: get, endpoint: "%(url)s/status"}
""",
    "waits": """
webhook: {auth: none}
do:
- one: {set: {first: "${ .body.number }"}}
- pause: {%(wait)s}
- two: {set: {second: "${ .first }"}}
""",
    "ordered": """
webhook: {auth: none}
execution: {order_by: "${ .body.key }"}
do:
- pause: {if: "${ .body.number == 0 }", %(wait)s}
- said: {set: {number: "${ .body.number }"}}
""",
    "approval": """
webhook:
  auth: none
  respond: {mode: reply, timeout: PT30S}
  callbacks:
    decision: {auth: {api_key: {header: X-Api-Key, secret: approver-key}}}
do:
- remember:
    set: {order: "${ .body.order }"}
    export: {as: "${ . }"}
- ask:
    call: reply
    with: {status: 202, body: {url: "${ $runtime.metadata.callbacks.decision }"}}
- decide:
    listen:
      to:
        one:
          with: {type: decision}
          correlate: {order: {from: "${ .data.body.order }", expect: "${ $context.order }"}}
    output: {as: "${ .[0].body }"}
""",
    "early": """
webhook:
  auth: none
  callbacks: {note: {auth: {api_key: {header: X-Api-Key, secret: approver-key}}}}
do:
- remember:
    set: {order: "${ .body.order }"}
    export: {as: "${ . }"}
- pause: {%(wait)s}
- hear:
    listen:
      to:
        one:
          with: {type: note}
          correlate: {order: {from: "${ .data.body.order }", expect: "${ $context.order }"}}
    output: {as: "${ .[0].body }"}
""",
    "parent": """
webhook: {auth: none}
do:
- child:
    run: {workflow: {namespace: default, name: child, version: 1.0.0, input: {number: "${ .body.number }"}}}
- said: {set: {child: "${ . }"}}
""",
    "child": """
do:
- pause: {%(wait)s}
- said: {set: {number: "${ .number }"}}
""",
    "retries": """
webhook: {auth: none}
do:
- again:
    try:
    - look:
        call: http
        with: {method: get, endpoint: "%(url)s/down"}
    catch:
      retry: {delay: {seconds: 150}, limit: {attempt: {count: 9}}}
""",
    "calls": """
use: {secrets: [api-token]}
webhook: {auth: none}
do:
- first:
    call: http
    with: {method: post, endpoint: "%(url)s/first", body: {number: "${ .body.number }"}}
- second:
    call: http
    with:
      method: post
      endpoint: "%(url)s/second"
      headers: {X-Token: "${ $secrets[\\"api-token\\"] }"}
      body: {}
""",
    "replies": """
webhook: {auth: none, respond: {mode: reply, timeout: PT1S}}
do:
- pause: {%(wait)s}
- said: {set: {late: true}}
""",
    "emits": """
webhook: {auth: none}
do:
- tell:
    emit:
      event:
        with: {source: "https://shop.example/orders", type: com.example.paid, data: {order: "${ .body.order }"}}
""",
    "reacts": """
schedule: {on: {one: {with: {type: com.example.paid}}}}
do:
- said: {set: {order: "${ .[0].data.order }"}}
""",
    "hourly": """
schedule: {every: {hours: 1}}
do:
- said: {set: {run: true}}
""",
    "signed": """
webhook: {auth: {api_key: {header: X-Api-Key, secret: approver-key}}}
do:
- said: {set: {number: "${ .body.number }"}}
""",
    "large": """
webhook: {auth: none, max_body: 4MiB}
do:
- pause: {%(wait)s}
- said: {set: {size: "${ .body.text | length }"}}
""",
    "uploads": """
webhook: {auth: none, max_body: 64MiB}
do:
- pause: {%(wait)s}
- said: {set: {size: "${ .attachments[0].size }"}}
""",
}


class World(http.server.BaseHTTPRequestHandler):
    """Services that flows call; `/second` never answers, so that whoever calls it is running when all is killed."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._answer({"/down": 503, "/status": 404}.get(self.path, 200))

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/second":
            time.sleep(600)
        self._answer(200)

    def _answer(self, status):
        body = json.dumps({"path": self.path}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class Cluster:
    """A running cluster of the earlier version."""

    def __init__(self, worktree: Path, directory: Path) -> None:
        self.directory = directory
        self._program = worktree / ".venv/bin/flowhook"
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "FLOWHOOK_DATA_DIR": str(directory),
            "FLOWHOOK_STORAGE": f"sqlite:{directory}/flowhook.db",
            "FLOWHOOK_ALLOW_PRIVATE_ADDRESSES": "true",
        }
        self.http = free_port()
        self.grpc = free_port()
        self._environment["FLOWHOOK_ROUTER"] = f"127.0.0.1:{self.grpc}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        ports = ("--http-port", str(self.http), "--admin-port", "0", "--grpc-port", str(self.grpc), "--runners", "1")
        self._process = subprocess.Popen(
            [self._program, "up", *ports], env=self._environment, stdout=subprocess.PIPE, start_new_session=True
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if b"flowhook ready" in line:
                return
        raise SystemExit("flowhook up ended")

    def kill(self) -> None:
        """End all processes as a power failure does."""
        assert self._process is not None
        for pid_file in (self.directory / "run").glob("*.pid"):
            os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)
        self._process.kill()
        self._process.wait()

    def __call__(self, *arguments: str, data: bytes = b"") -> str:
        done = subprocess.run(
            [self._program, *arguments],
            env=self._environment,
            input=data,
            capture_output=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"flowhook {' '.join(arguments)}: {done.stderr.decode()}")
        return done.stdout.decode()

    def post(self, path: str, body: object, **headers: str) -> tuple[int, dict[str, object], dict[str, str]]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"Content-Type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", data, fields)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read() or b"null"), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null"), dict(error.headers)

    def send(self, flow: str, body: object, **headers: str) -> str:
        """Return the ID of the execution that a webhook started."""
        status, answer, _ = self.post(f"/hook/{flow}", body, **headers)
        assert status == 202, (flow, status, answer)
        return str(answer["id"])

    def executions(self, flow: str) -> dict[str, str]:
        """Return the status of each execution of a flow."""
        lines = self("executions", "list", "--flow", flow, "--limit", "100", "--json").splitlines()
        return {each["id"]: each["status"] for each in map(json.loads, lines)}

    def reach(self, flow: str, *statuses: str) -> dict[str, str]:
        """Wait until the executions of a flow have these statuses, in any order."""
        deadline = time.monotonic() + 60
        while sorted((found := self.executions(flow)).values()) != sorted(statuses):
            if time.monotonic() > deadline:
                raise SystemExit(f"{flow}: {found}, not {statuses}")
            time.sleep(0.2)
        return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def record(cluster: Cluster) -> dict[str, object]:  # noqa: PLR0915 - a story
    """Bring executions where they shall be, and return what the archive says about them."""
    flows = cluster.directory / "flows"
    flows.mkdir()
    for name, text in FLOWS.items():
        (flows / f"{name}.yaml").write_text(HEAD.format(name=name) + text % {"url": URL, "wait": WAIT})
    cluster("secrets", "set", "approver-key", "--value", "s3cr3t")
    cluster("secrets", "set", "api-token", "--value", "t0ken")
    cluster("apply", "-f", str(flows))
    shutil.rmtree(flows)
    ids: dict[str, object] = {}
    ids["completed"] = cluster.send("hello", {"name": "Ann", "order": "A-1", "delivery": "d1"})
    ids["faulted"] = [cluster.send("faults", {"number": number}) for number in range(6)]
    cluster.reach("faults", *["faulted"] * 6)
    assert cluster.post("/hook/signed", {"number": 1}, X_Api_Key="wrong")[0] == 401
    ids["signed"] = cluster.send("signed", {"number": 2}, X_Api_Key="s3cr3t")
    cluster.send("emits", {"order": "E-1"})
    cluster.reach("reacts", "completed")
    cluster.reach("hello", "completed")
    ids["replayed"] = cluster("executions", "replay", str(ids["completed"]), "--json").strip()
    cluster("executions", "resolve", ids["faulted"][0], "--reason", "known")  # type: ignore[index]
    # From here on within 150 seconds, after which those that wait go on.
    status, answer, _ = cluster.post("/hook/approval", {"order": "PO-1"})
    assert status == 202, answer
    ids["decision_url"] = str(answer["url"]).split("/", 3)[-1]
    status, answer, _ = cluster.post("/hook/approval", {"order": "PO-2"})
    ids["waiting"] = cluster.send("waits", {"number": 1})
    ids["suspended"] = cluster.send("waits", {"number": 2})
    ids["cancelled"] = cluster.send("waits", {"number": 3})
    ids["ordered"] = [cluster.send("ordered", {"key": "k", "number": number}) for number in range(3)]
    ids["parent"] = cluster.send("parent", {"number": 7})
    ids["retrying"] = cluster.send("retries", {})
    ids["running"] = cluster.send("calls", {"number": 1})
    ids["early"] = cluster.send("early", {"order": "N-1"})
    ids["large"] = cluster.send("large", {"text": "x" * 2 * MIB})
    ids["upload"] = cluster.send("uploads", b"y" * 2 * MIB, Content_Type="application/octet-stream")
    status, answer, headers = cluster.post("/hook/replies", {})
    assert status == 202, answer
    ids["reply_url"] = headers["Location"].lstrip("/")
    status, answer, _ = cluster.post("/hook/early/note", {"order": "N-1", "text": "kept"}, X_Api_Key="s3cr3t")
    assert status < 300, answer
    cluster.reach("waits", "waiting", "waiting", "waiting")
    cluster("executions", "suspend", str(ids["suspended"]))
    cluster("executions", "cancel", str(ids["cancelled"]))
    cluster.reach("waits", "waiting", "suspended", "cancelled")
    cluster.reach("ordered", "waiting", "pending", "pending")
    cluster.reach("approval", "waiting", "waiting")
    for flow in ("parent", "child", "retries", "early", "large", "replies", *(["uploads"] if "upload" in ids else [])):
        cluster.reach(flow, "waiting")
    cluster.reach("calls", "running")
    ids["audit"] = len(cluster("audit", "list", "--json").splitlines())
    ids["rejections"] = [json.loads(line)["id"] for line in cluster("rejections", "list", "--json").splitlines()]
    confirmed = ("--yes",) if "--yes" in cluster("jobs", "create", "--help") else ()
    cluster("jobs", "create", "replay", "--flow", "faults", "--status", "faulted", "--rate", "0.2", *confirmed)
    while True:
        (job,) = [json.loads(line) for line in cluster("jobs", "list", "--json").splitlines()]
        if job["state"] == "running" and job["done"]:
            break
    ids["job"] = job
    return ids


def pack(directory: Path, archive: Path, recorded: dict[str, object], *, left_out: tuple[str, ...]) -> None:
    for name in left_out:
        path = directory / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    (directory / "recorded.json").write_text(json.dumps(recorded, indent=1))
    with tarfile.open(archive, "w:xz", preset=9) as packed:
        for path in sorted(directory.rglob("*")):
            if path.is_file():
                packed.add(path, path.relative_to(directory))
    sys.stdout.write(f"{archive}: {archive.stat().st_size} bytes\n")


def main() -> None:
    worktree, archive = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    world = http.server.ThreadingHTTPServer(WORLD, World)
    world.daemon_threads = True
    threading.Thread(target=world.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary) / "data"
        directory.mkdir(mode=0o700)
        cluster = Cluster(worktree, directory)
        try:
            cluster.start()
            recorded = record(cluster)
            cluster.kill()
        finally:
            cluster.kill() if cluster._process and cluster._process.poll() is None else None
        pack(directory, archive, recorded, left_out=("run", "logs"))


if __name__ == "__main__":
    main()
