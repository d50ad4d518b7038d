"""Commands without a cluster: usage, refusals, and that neither ever shows a traceback."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys

import pytest
from support.cases import cases
from support.commands import flowhook, flowhook_process

GOOD = "document: {dsl: 1.0.3, namespace: default, name: hello, version: 1.0.0}\n"
GOOD += "do:\n  - greet: {set: {greeting: '${ \"Hello, \\(.name)!\" }'}}\n"

COMMANDS = ["up", "apply", "exec", "send", "tail", "flows", "secrets", "executions", "tokens", "components", "check"]
COMMANDS += ["edge", "router", "runner", "admin"]


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "No such command 'nope'"),
        (["apply"], "Missing option '--file'"),
        (["exec"], "Missing argument 'FILE'"),
        (["flows", "get"], "Missing argument 'ID'"),
        (["flows", "graph"], "the ID of a flow, or --file"),
        (["flows", "graph", "x", "--file", "y"], "the ID of a flow, or --file"),
        (["edge", "--http-port", "x"], "--http-port"),
        (["edge", "--http-port", "70000"], "--http-port"),
        (["up", "--edges", "0"], "--edges"),
        (["executions", "list", "--status", "lost"], "'--status': 'lost' is not one of 'pending'"),
        (["flows", "list", "--router", "127.0.0.1"], "--router: expected HOST:PORT"),
        (["flows", "list", "--router", "http://127.0.0.1:50051"], "--router: expected HOST:PORT"),
        (["runner", "--router", "router.internal"], "--router: expected HOST:PORT"),
        (["executions", "list", "--limit", "0"], "--limit"),
        (["executions", "replay"], "give IDs of executions, or conditions"),
        (["executions", "replay", "evt_x", "--flow", "x"], "give IDs of executions, or conditions"),
        (["executions", "cancel", "evt_x", "--start", "auto"], "No such option: --start"),
        (["executions", "replay", "evt_x", "--start", "middle"], "--start"),
        (["executions", "replay", "evt_x", "--rate", "1"], "--rate goes with conditions"),
        (["executions", "get", "evt_x", "--raw", "--json"], "--raw"),
        (["secrets", "set", "x", "--value", "a", "--from-file", "b"], "one of --value"),
        (["secrets", "set", "x", "value"], "--value"),
        (["secrets", "set", "x", "-"], "empty"),
        (["secrets", "set", "x", "--from-file", "/no/such"], "/no/such"),
        (["send", "x", "--data", "@/no/such"], "/no/such"),
        (["send", "x", "--header", "novalue"], "--header"),
        (["tokens", "create", "x"], "--scope"),
        (["tokens", "create", "x", "--scope", "root"], "--scope"),
    ],
)
def test_wrong_usage_is_exit_code_2_and_says_what_was_wrong(tmp_path, arguments, message):
    result = flowhook(*arguments, FLOWHOOK_DATA_DIR=tmp_path)
    assert result.code == 2
    assert message in result.err
    assert len(result.err.splitlines()) <= 3
    assert "Traceback" not in result.err
    assert result.out == ""


@pytest.fixture
def impatient(monkeypatch):
    """Have clients give up at the first failure: how long they try is tested with them."""
    monkeypatch.setattr("flowhook.client.router_errors.RETRY_SECONDS", 0.0)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "arguments",
    [
        ["flows", "list"],
        ["secrets", "list", "--json"],
        ["executions", "list"],
        ["tail"],
        ["send", "x"],
    ],
)
def test_a_router_that_is_away_is_one_line_and_exit_code_1(tmp_path, arguments):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        router = f"127.0.0.1:{nobody.getsockname()[1]}"
        result = flowhook(*arguments, "--router", router, FLOWHOOK_TOKEN="fhk_secret-token")
    assert (result.code, result.out) == (1, "")
    assert result.err == f"flowhook: can't reach the router at {router}; is it running?\n"


@pytest.mark.usefixtures("impatient")
def test_a_router_that_is_away_is_reported_with_where_its_address_comes_from(tmp_path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        router = f"127.0.0.1:{nobody.getsockname()[1]}"
        result = flowhook("flows", "list", FLOWHOOK_TOKEN="fhk_secret-token", FLOWHOOK_ROUTER=router)
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        f"flowhook: can't reach the router at {router}; is it running? (the address is that of FLOWHOOK_ROUTER)\n"
    )


def test_without_a_token_it_is_said_where_one_was_looked_for(tmp_path):
    result = flowhook("flows", "list", "--data-dir", tmp_path / "none")
    assert result.code == 1
    assert "none/admin.token" in result.err
    assert "FLOWHOOK_TOKEN" in result.err


def test_all_faults_of_all_files_are_named_with_file_line_key_and_cause(tmp_path, good):
    (tmp_path / "a.yaml").write_text(GOOD.replace("\\(.name)", "\\(env)") + "  - b: {call: no.such}\n")
    (tmp_path / "b.yml").write_text("document: {}\ndocument: {}\n")
    (tmp_path / "c.json").write_text("[1")
    (tmp_path / "notes.txt").write_text("no flow")
    result = flowhook("apply", "-f", tmp_path)
    assert (result.code, result.out) == (1, "")
    lines = result.err.splitlines()
    assert any(line.startswith(f"{tmp_path}/a.yaml:3: do[0].greet.set.greeting: ") for line in lines), lines
    assert any(line.startswith(f"{tmp_path}/a.yaml:4: do[1].b.call: ") for line in lines), lines
    assert any(line.startswith(f"{tmp_path}/b.yml:2: document: ") for line in lines), lines
    assert any(line.startswith(f"{tmp_path}/c.json:1: ") for line in lines), lines
    assert not any(good.name in line for line in lines)


def test_one_flow_in_two_files_is_refused(tmp_path, good):
    (tmp_path / "other.yaml").write_text(GOOD)
    result = flowhook("apply", "-f", tmp_path)
    assert result.code == 1
    assert f"{tmp_path}/other.yaml: document: flow hello is in {good} too" in result.err


@pytest.mark.parametrize("name", ["missing.yaml", "empty"])
def test_a_path_without_a_flow_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    result = flowhook("apply", "-f", tmp_path / name)
    assert result.code == 1
    assert name in result.err


def test_exec_prints_the_output(good):
    result = flowhook("exec", good, "--input", '{"name": "Ada"}', "--json")
    assert (result.code, result.rows, result.err) == (0, [{"greeting": "Hello, Ada!"}], "")


def test_exec_takes_its_input_from_a_file_or_stdin(good, tmp_path):
    (tmp_path / "in.json").write_text('{"name": "Ada"}')
    assert flowhook("exec", good, "--json", "--input", f"@{tmp_path}/in.json").rows == [{"greeting": "Hello, Ada!"}]
    assert flowhook("exec", good, "--json", "--input", "@-", stdin='{"name": "Bo"}').rows == [
        {"greeting": "Hello, Bo!"}
    ]


def test_exec_takes_the_input_for_the_body_of_an_event_where_there_is_a_webhook(tmp_path):
    path = tmp_path / "kept.yaml"
    path.write_text(GOOD.splitlines()[0] + "\ndo: [{keep: {set: '${ . }'}}]\n")
    assert flowhook("exec", path, "--json", "--input", '{"body": 1}').rows == [{"body": 1}]
    assert flowhook("exec", path, "--json").rows == [{}]
    path.write_text(path.read_text() + "webhook: {auth: none}\n")
    (event,) = flowhook("exec", path, "--json", "--input", '{"body": 1}').rows
    assert (event["body"], event["method"], event["attachments"]) == ({"body": 1}, "POST", [])


def test_exec_prints_a_fault_as_json_on_stderr(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(GOOD.replace("\\(.name)", "\\(. + 1)"))
    result = flowhook("exec", path, "--input", '{"name": "Ada"}')
    assert (result.code, result.out) == (1, "")
    error = json.loads(result.err)
    assert error["type"].endswith("/errors/expression")
    assert error["instance"] == "/do/0/greet"
    assert set(error) == {"type", "status", "title", "instance", "detail"}


def test_exec_takes_secrets_from_options_files_and_the_environment(tmp_path):
    path = tmp_path / "secrets.yaml"
    use = "use: {secrets: [one, two, three-3]}\n"
    path.write_text(GOOD + use)
    path.write_text(
        path.read_text().replace('"Hello, \\(.name)!"', '$secrets.one + $secrets.two + $secrets["three-3"]')
    )
    (tmp_path / "two").write_text("2\n")
    arguments = ["exec", path, "--json", "--secret", "one=1", "--secret", f"two=@{tmp_path}/two"]
    assert flowhook(*arguments, FLOWHOOK_SECRET_THREE_3="3").rows == [{"greeting": "123"}]


@pytest.mark.parametrize("task", ["{set: {x: '${ $secrets.bank }'}}", "{call: twitter.post, with: {text: a}}"])
def test_exec_names_the_option_that_gives_a_secret(tmp_path, task):
    path = tmp_path / "secret.yaml"
    path.write_text(f"{GOOD.splitlines()[0]}\nuse: {{secrets: [bank]}}\ndo:\n  - work: {task}\n")
    given = ["--secret", "bank=1"] if "twitter" in task else []
    missing = "twitter" if given else "bank"
    result = flowhook("exec", path, *given)
    assert (result.code, result.out) == (1, "")
    assert f"--secret {missing}=@FILE" in json.loads(result.err)["detail"]


def calling(path, endpoint):
    ask = {
        "call": "http",
        "with": {"method": "get", "endpoint": endpoint},
        "metadata": {"retry": {"limit": {"attempt": {"count": 0}}}},
    }
    path.write_text(f"{GOOD.splitlines()[0]}\ndo: {json.dumps([{'ask': ask}])}\n")
    return path


def test_exec_names_the_option_that_allows_an_address(tmp_path):
    path = calling(tmp_path / "private.yaml", "http://169.254.169.254/latest/meta-data/")
    result = flowhook("exec", path)
    assert result.code == 1
    warning, error = result.err.split("\n", 1)
    assert "169.254.169.254 is a private address: runners call it only with --allow-private-addresses" in warning
    detail = json.loads(error)["detail"]
    assert "the address is not allowed" in detail
    assert detail.endswith("--allow-private-addresses or FLOWHOOK_ALLOW_PRIVATE_ADDRESSES=true allows it")


def test_exec_calls_this_machine_without_an_option(tmp_path):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        path = calling(tmp_path / "local.yaml", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        result = flowhook("exec", path)
    assert result.code == 1
    assert "allow" not in json.loads(result.err)["detail"]


@pytest.mark.parametrize("given", ["{", "@/no/such"])
def test_exec_refuses_input_that_is_no_json(good, given):
    result = flowhook("exec", good, "--input", given)
    assert result.code == 2
    assert "--input" in result.err


def test_exec_names_the_faults_of_a_bad_file(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("do: 5\n")
    result = flowhook("exec", path)
    assert result.code == 1
    assert f"{path}:1: do: " in result.err


def test_tokens_are_created_listed_and_revoked(tmp_path):
    created = flowhook("tokens", "create", "billing", "--scope", "ingest", "--scope", "run", FLOWHOOK_DATA_DIR=tmp_path)
    assert created.code == 0
    assert created.out.startswith("fhk_")
    listed = flowhook("tokens", "list", "--json", FLOWHOOK_DATA_DIR=tmp_path)
    (row,) = [row for row in listed.rows if row["name"] == "billing"]
    assert row.pop("created_at").endswith("Z")
    assert row == {
        "name": "billing",
        "scopes": ["ingest", "run"],
        "flows": [],
        "last_used_at": None,
        "expires_at": None,
        "earlier": [],
    }
    assert created.out.strip() not in listed.out
    assert flowhook("tokens", "revoke", "billing", FLOWHOOK_DATA_DIR=tmp_path).code == 0
    again = flowhook("tokens", "revoke", "billing", FLOWHOOK_DATA_DIR=tmp_path)
    assert (again.code, again.err) == (1, "flowhook: there is no token billing\n")


def test_tokens_are_for_some_flows_end_and_are_rotated(tmp_path):
    options = ("--scope", "ingest", "--flow", "orders", "--expires-in", "P90D")
    before = flowhook("tokens", "create", "billing", *options, FLOWHOOK_DATA_DIR=tmp_path)
    after = flowhook("tokens", "rotate", "billing", "--overlap", "PT1H", FLOWHOOK_DATA_DIR=tmp_path)
    assert (before.code, after.code) == (0, 0)
    assert after.out.startswith("fhk_")
    assert after.out != before.out
    listed = flowhook("tokens", "list", "--json", FLOWHOOK_DATA_DIR=tmp_path)
    (row,) = [row for row in listed.rows if row["name"] == "billing"]
    assert row["flows"] == ["orders"]
    assert row["created_at"] < row["earlier"][0]["expires_at"] < row["expires_at"]
    shown = flowhook("tokens", "list", FLOWHOOK_DATA_DIR=tmp_path)
    assert "orders" in shown.out
    assert row["expires_at"][:10] in shown.out
    wrong = flowhook("tokens", "rotate", "billing", "--overlap", "1 hour", FLOWHOOK_DATA_DIR=tmp_path)
    assert (wrong.code, "PT1H" in wrong.err) == (1, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--routers", "2"], "one router owns the database file"),
        (["--routers", "2"], "--storage nats:"),
        (["--storage", "postgres://localhost"], "'postgres' is not supported"),
        (["--flows", "/no/such"], "/no/such"),
        (["--tls-cert-file", "/no/such"], "TLS needs both --tls-cert-file and --tls-key-file"),
        (["--tls-cert-file", "/no/such", "--tls-key-file", "/no/such"], "TLS can't be set up"),
    ],
)
def test_up_refuses_what_it_cannot_start(tmp_path, options, message):
    result = flowhook("up", "--data-dir", tmp_path, "--http-port", 0, "--admin-port", 0, "--grpc-port", 0, *options)
    assert (result.code, result.out) == (1, "")
    assert message in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize("option", ["--http-port", "--admin-port", "--grpc-port"])
def test_up_names_a_port_that_is_taken(tmp_path, option):
    ports = {"--http-port": 0, "--admin-port": 0, "--grpc-port": 0}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports[option] = taken.getsockname()[1]
        result = flowhook("up", "--data-dir", tmp_path, *(word for pair in ports.items() for word in pair))
    assert result.code == 1
    assert f"port {ports[option]} on 127.0.0.1 is in use" in result.err
    assert option in result.err


def test_up_names_all_ports_that_are_taken_at_once(tmp_path):
    options = ("--http-port", "--admin-port", "--grpc-port")
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in options]
        ports = [each.getsockname()[1] for each in taken]
        result = flowhook(
            "up", "--data-dir", tmp_path, *(word for pair in zip(options, ports, strict=True) for word in pair)
        )
    assert result.code == 1
    assert f"{' and '.join(f'port {port} on 127.0.0.1' for port in ports)} are in use" in result.err
    assert all(option in result.err for option in options)


def test_up_checks_flows_before_it_starts_anything(tmp_path):
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "bad.yaml").write_text("do: 5\n")
    result = flowhook("up", "--data-dir", tmp_path / "data", "--flows", tmp_path / "flows")
    assert (result.code, result.out) == (1, "")
    assert "bad.yaml:1: do: " in result.err
    assert not (tmp_path / "data").exists()


def test_help_lists_every_command():
    result = flowhook_process("--help")
    assert result.code == 0
    for command in COMMANDS:
        assert f" {command} " in result.out


def test_help_is_quick_because_it_loads_nothing_that_takes_long():
    script = "import sys; from cli.__main__ import main; code = main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert "tokens" in done.stdout
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert "cli" in loaded
    assert not loaded & {"aiohttp", "cryptography", "edge", "jq", "jsonschema", "router", "ruamel", "runner", "tornado"}
    assert not loaded & {"grpc", "prometheus_client", "structlog"}


@cases("module", ["cli", "cli.supervisor"])
@cases("interrupted", ["asyncio", "pathlib"])
def test_an_interrupt_while_it_imports_ends_it_silently(module, interrupted):
    script = (
        "import builtins, signal, sys\nreal = builtins.__import__\n"
        "def load(name, *more, **others):\n"
        f"    if name == {interrupted!r}: signal.raise_signal(signal.SIGINT)\n"
        "    return real(name, *more, **others)\n"
        "builtins.__import__ = load\n"
        f"from {module}.__main__ import main\nsys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_version_is_printed():
    assert flowhook_process("--version").out.strip().count(".") == 2


def test_exec_warns_of_an_expression_that_is_none(tmp_path):
    file = tmp_path / "greet.yaml"
    file.write_text(
        "document: {dsl: 1.0.3, namespace: default, name: greet, version: 1.0.0}\n"
        'do: [{greet: {set: {text: "Hello ${ .body.name }"}}}]\n'
    )
    result = flowhook("exec", file, "--json")
    assert result.rows == [{"text": "Hello ${ .body.name }"}]
    assert result.err.startswith(f"{file}:2: warning: do[0].greet.set.text: '${{ .body.name }}' is not evaluated")


@pytest.mark.parametrize(
    ("module", "needless"),
    [
        ("cli.client_factory", {"aiohttp", "prometheus_client", "structlog", "tornado"}),
        ("cli.flow_files", {"aiohttp", "grpc", "prometheus_client", "structlog", "tornado"}),
    ],
)
def test_commands_load_nothing_that_takes_long_and_they_do_not_need(module, needless):
    script = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "cli" in loaded
    assert not loaded & needless
