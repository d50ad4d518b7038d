"""No secret and no credential is found in the clear: not on disk, not in what is printed, not in what is shown."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import socket
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from support.systems import document, running_system

pytestmark = pytest.mark.e2e

EXAMPLES = Path(__file__).parents[2] / "examples"

# characters that are written differently in URLs, JSON and base64
PASSWORD = 'pass/word+of="the" bank&1'
HEADER_KEY = "key/in+a=header&2"
QUERY_KEY = "key/in+the=query&3"
HMAC_SECRET = "hmac/secret+of=github&4"
URL_TOKEN = "T000-B000-token-in-a-url-5"
BEARER = "bearer-token-sent-to-others-6"
NOT_JSON = "this-secret-is-no-json-7"
NOT_A_URL = "no-url:// this secret is none-8"
NOT_A_NUMBER = "this-secret-is-no-number-9"
CLIENT_SECRET = "secret/of+the=client&15"
ISSUED_TOKEN = "token-that-was-issued-16.x+y/z="
NEW_LINE = "this-secret-has\na-second-line-10"
TWITTER = {
    "api_key": "consumer-key-11-of-x",
    "api_key_secret": "consumer-secret-12-of-x",
    "access_token": "access-token-13-of-x",
    "access_token_secret": "access-secret-14-of-x",
}

VALUES = [PASSWORD, HEADER_KEY, QUERY_KEY, HMAC_SECRET, URL_TOKEN, BEARER, NOT_JSON, NOT_A_URL, NOT_A_NUMBER, NEW_LINE]
VALUES += TWITTER.values()
VALUES += [CLIENT_SECRET, ISSUED_TOKEN]

POST = "call: http, with: {{method: post, endpoint: '{}', headers: {}, body: {{a: 1}}, output: response}}"


def calling(endpoint, headers="{}"):
    return f"- ask: {{{POST.format(endpoint, headers)}}}"


def authenticated(place, policy):
    endpoint = f"{{uri: '${{ $secrets[\"{place}\"] }}', authentication: {{{policy}}}}}"
    return f"- ask: {{call: http, with: {{method: get, endpoint: {endpoint}, output: response}}}}"


def flows():
    use = (
        "{secrets: [place, dead-place, refusing-place, moved-place, no-url, bearer, no-number, new-line, password, "
        "challenging-place, client, bad-client]}"
    )
    everything = (
        "{auth: [{basic: {username: bank, secret: password}}, {api_key: {header: X-Key, secret: header-key}}, "
        "{api_key: {query: key, secret: query-key}}, {github: {secret: hmac}}], respond: {body: {id: '${ .id }'}}}"
    )
    failing = {
        "dead": calling('${ $secrets["dead-place"] }'),
        "refusing": calling('${ $secrets["refusing-place"] }'),
        "moved": calling('${ $secrets["moved-place"] }'),
        "no-url": calling('${ $secrets["no-url"] }'),
        "in-header": calling("${ $secrets.place }", "{Authorization: '${ \"Bearer \\($secrets.bearer)\" }'}"),
        "bad-header": calling("${ $secrets.place }", "{Authorization: '${ $secrets[\"new-line\"] }'}"),
        "number": "- a: {set: {a: '${ $secrets[\"no-number\"] | tonumber }'}}",
        "type": "- a: {set: {a: '${ $secrets[\"no-number\"] + 1 }'}}",
        "raised": "- a: {set: {a: '${ error($secrets[\"no-number\"]) }'}}",
        "key-of": "- a: {set: {a: '${ {} | .[$secrets] }'}}",
        "schema": "- a: {set: {a: 1}, output: {as: '${ $secrets[\"no-number\"] }', "
        "schema: {document: {type: object}}}}",
        "tweet": "- a: {call: twitter.post, with: {text: hello}}",
        "token": authenticated("place", "oauth2: {use: client}"),
        "bad-token": authenticated("refusing-place", "oauth2: {use: client}"),
        "no-token": authenticated("place", "oauth2: {use: bad-client}"),
        "digest": authenticated("challenging-place", "digest: {username: ada, password: '${ $secrets.password }'}"),
        "bad-tweet": "- a: {call: twitter.post, with: {text: hello, secret: no-json}}",
    }
    yield document("everything", webhook=everything)
    yield from (document(name, use=use, do=do, execution="{retry: quick}") for name, do in failing.items())


def signature(body):
    return hmac.new(HMAC_SECRET.encode(), body, hashlib.sha256).hexdigest()


def basic(username, password):
    return {"Authorization": "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()}


async def right_and_wrong_requests(system):
    """Send with every kind of credential, in the right place and in wrong ones; return the IDs."""
    body = b'{"n": 1}'
    large = b'{"n": "' + b"x" * 1_500_000 + b'"}'
    signed = {"X-Hub-Signature-256": f"sha256={signature(body)}"}
    accepted = [
        ({"headers": basic("bank", PASSWORD)}, body),
        ({"headers": {"X-Key": HEADER_KEY}}, body),
        ({"params": {"key": QUERY_KEY, "page": "2"}}, body),
        ({"headers": signed}, body),
        ({"headers": basic("bank", PASSWORD)}, large),
        # one passes, and the others have come along
        ({"headers": {**basic("bank", PASSWORD), "X-Key": HEADER_KEY, **signed}, "params": {"key": QUERY_KEY}}, body),
        ({"headers": {**basic("bank", "wrong" + PASSWORD), "X-Key": HEADER_KEY}}, body),
    ]
    refused = [
        {"headers": basic("other", PASSWORD)},
        {"headers": {"Authorization": f"Basic {PASSWORD}"}},
        {"headers": {"Authorization": f"Bearer {HEADER_KEY}"}},
        {"headers": {"X-Key": PASSWORD}},
        {"headers": {"X-Key": HEADER_KEY + "x"}},
        {"headers": {"X-Other-Key": HEADER_KEY}},
        {"params": {"key": HEADER_KEY}},
        {"params": {"other": QUERY_KEY}},
        {"headers": {"X-Hub-Signature-256": f"sha256={HMAC_SECRET}"}},
        {"headers": {"X-Hub-Signature-256": signature(body)}},
    ]
    sent = []
    for options, content in accepted:
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        answer = await system.request("POST", "/hook/everything", data=io.BytesIO(content), headers=headers, **options)
        sent.append(answer.id)
    for options in refused:
        assert (await system.send("everything", {}, **options)).status == 401
    # credentials in a request that is not accepted for another reason
    for path, options in (
        (f"/hook/{quote(QUERY_KEY, safe='')}", {}),
        ("/hook/nothing", {"params": {"key": QUERY_KEY}, "headers": {"X-Key": HEADER_KEY}}),
        ("/hook/everything", {"headers": {"X-Key": HEADER_KEY, "Content-Type": "application/json"}, "data": b"{"}),
    ):
        assert (await system.request("POST", path, **options)).status in {400, 404}
    return sent


def forms(value):
    """Give the ways in which a value might be written."""
    raw = value.encode()
    yield raw
    yield json.dumps(value)[1:-1].encode()
    for written in (quote(value, safe=""), quote(value), quote_plus(value)):
        yield written.encode()
        yield written.lower().encode()
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    yield repr(raw)[2:-1].encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            # in whatever text it stands: what is coded together with its neighbours is left away
            yield encode(b"\0" * shift + raw)[4 if shift else 0 :].rstrip(b"=")[:-2]


def test_the_search_finds_a_secret_however_it_is_written():
    for text in (
        PASSWORD.encode(),
        json.dumps({"a": PASSWORD}).encode(),
        quote(PASSWORD).encode(),
        base64.b64encode(f"bank:{PASSWORD}".encode()),
        base64.urlsafe_b64encode(f"ab{PASSWORD}cd".encode()),
        PASSWORD.encode().hex().encode(),
    ):
        assert any(form in text for form in forms(PASSWORD)), text
    assert all(len(form) > 10 for value in VALUES for form in forms(value))


def leaks(places, needles):
    """Give (place, needle) for each needle that is found."""
    return {
        (place, needle, content[max(content.index(form) - 80, 0) : content.index(form) + 40])
        for place, content in places.items()
        for needle in needles
        for form in forms(needle)
        if form in content
    }


def files_of(data_dir):
    return {
        str(path.relative_to(data_dir)): path.read_bytes()
        for path in data_dir.rglob("*")
        if path.is_file() and path.suffix != ".token" and path.name != "secrets.key"
    }


async def shown_by(system, ids):
    """Return what operators can look at."""
    places = {path: (await system.admin(path)).body for path in ("/metrics", "/health", "/readyz", "/")}
    for command in ("executions list --json", "executions list", "flows get everything --json", "secrets list --json"):
        result = await system.flowhook(*command.split())
        places[command] = (result.out + result.err).encode()
    for execution_id in ids:
        places[execution_id] = str(await system.client.executions.get(execution_id)).encode()
    for arguments in (["--json"], []):
        result = await system.flowhook("executions", "get", ids[0], *arguments)
        places[f"get {arguments}"] = (result.out + result.err).encode()
    for pid in (path.read_text().strip() for path in (system.cluster.data_dir / "run").glob("*.pid")):
        places[f"command line of {pid}"] = Path(f"/proc/{pid}/cmdline").read_bytes()
    return places


def answer_of_the_world(request):
    if request.path == "/2/tweets":
        return 401, {"title": "Unauthorized", "detail": request.headers["Authorization"]}
    if request.path == "/oauth2/token":
        return 200, {"access_token": ISSUED_TOKEN, "token_type": "Bearer", "expires_in": 3600}
    if request.path.startswith("/challenging") and "Authorization" not in request.headers:
        return 401, {}, {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth", algorithm=SHA-256'}
    if request.path.startswith("/refusing"):
        return 500, {"you": "sent", "to": request.path}
    return 200, {"ok": True}


def client(authority):
    identity = {"id": "flowhook", "secret": CLIENT_SECRET}
    return json.dumps({"authority": authority, "grant": "client_credentials", "client": identity})


async def test_no_secret_is_found_in_the_clear(tmp_path):
    options = ("--allow-private-addresses", "--runners", "1")
    environment = {"log_level": "debug", "http_timeout": 2}
    async with running_system(
        *options, answer=answer_of_the_world, data_dir=tmp_path / "data", **environment
    ) as system:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            dead = f"http://127.0.0.1:{nobody.getsockname()[1]}"
            await system.secrets(
                password=PASSWORD, header_key=HEADER_KEY, query_key=QUERY_KEY, hmac=HMAC_SECRET, bearer=BEARER,
                place=f"{system.outside.url}/{URL_TOKEN}", dead_place=f"{dead}/{URL_TOKEN}?token={URL_TOKEN}",
                refusing_place=f"{system.outside.url}/refusing?t={URL_TOKEN}", no_json=NOT_JSON, no_url=NOT_A_URL,
                moved_place=f"http://{URL_TOKEN}:{URL_TOKEN}@127.0.0.1:1/{URL_TOKEN}", no_number=NOT_A_NUMBER,
                new_line=NEW_LINE, twitter=json.dumps(TWITTER), messenger_url=f"{system.outside.url}/{URL_TOKEN}",
                bank_password=PASSWORD, challenging_place=f"{system.outside.url}/challenging/{URL_TOKEN}",
                client=client(system.outside.url), bad_client=client(f"{system.outside.url}/refusing/{URL_TOKEN}"),
            )  # fmt: skip
            bank = (EXAMPLES / "bank-notification.yaml").read_bytes()
            documents = [*flows(), bank]
            applied = await system.apply(*documents)
            ids = await right_and_wrong_requests(system)
            for flow in (item.flow.id for item in applied):
                if flow not in {"everything", "bank-notification"}:
                    ids.append((await system.send(flow, {"n": 1})).id)
            transfer = {"account": "DE02", "amount": {"value": "1", "currency": "EUR"}, "counterparty": "Bakery"}
            answer = await system.send("bank-notification", transfer, headers=basic("bank", PASSWORD))
            ids.append(answer.json["reference"])
            statuses = {}
            for execution_id in ids:
                execution = (await system.ended(execution_id)).execution
                statuses[execution.flow_id] = str(execution.status)
        succeed = {"everything", "in-header", "bank-notification", "token", "digest"}
        assert statuses == {item.flow.id: "completed" if item.flow.id in succeed else "faulted" for item in applied}

        sent_to_others = [
            request.headers["Authorization"]
            for request in system.outside.received
            if "Authorization" in request.headers
        ]
        assert len(sent_to_others) >= 2
        tokens = [path.read_text().strip() for path in system.cluster.data_dir.glob("*.token")]
        assert len(tokens) == 4
        needles = [*VALUES, *tokens, *sent_to_others, signature(b'{"n": 1}')]
        places = await shown_by(system, ids)
        assert all(execution_id.encode() in places["executions list --json"] for execution_id in ids)
        places |= files_of(system.cluster.data_dir)
        assert len(places["flowhook.db"]) + len(places["flowhook.db-wal"]) > 10_000
        assert any("blob" in place or "payload" in place for place in places), list(places)
        found = leaks(places, needles)
        assert not found, "\n".join(map(str, found))
    places = files_of(tmp_path / "data") | {"output": "".join(system.cluster.output).encode()}
    assert len(places["output"]) > 1000
    found = leaks(places, needles)
    assert not found, "\n".join(map(str, found))
