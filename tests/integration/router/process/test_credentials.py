"""A key of secrets, or tokens, that are not those that the data was served with."""

from __future__ import annotations

import asyncio
import base64
import resource
import secrets
from contextlib import contextmanager

import pytest
import structlog
from support.patience import PATIENCE
from support.routers import running_router

from flowhook.errors import ConflictError, UnavailableError
from flowhook.process.process_state import ProcessState
from flowhook.process.settings import RouterSettings
from flowhook.security.tokens import TokenScope, TokenVerifier, create_token, list_tokens, revoke_token
from router.process.credentials import CredentialWatch, tokens_fingerprint
from router.storage.encryption import check_key_stored, load_secrets_key


def new_key():
    return base64.b64encode(secrets.token_bytes(32)).decode()


@pytest.fixture
async def data(tmp_path):
    """A data directory with a secret."""
    async with running_router(tmp_path / "data") as router, router.client() as client:
        await client.secrets.set("bank", b"hunter2")
    return tmp_path / "data"


async def served(data, **settings):
    async with running_router(data, **settings) as router, router.client() as client:
        return [secret.name for secret in await client.secrets.list()]


async def refused(data, **settings):
    with pytest.raises(ConflictError, match=r"restore the key.*--discard-secrets") as caught:
        async with running_router(data, **settings):
            pass
    return caught.value.reason


async def test_another_key_keeps_the_router_from_starting_and_loses_nothing(data):
    key = (data / "secrets.key").read_text()
    (data / "secrets.key").write_text(new_key())
    assert await refused(data) == "SECRETS_KEY_DIFFERS"
    assert await refused(data, secrets_key=new_key()) == "SECRETS_KEY_DIFFERS"
    assert await served(data, secrets_key=key.strip()) == ["bank"]


async def test_another_key_is_noticed_before_any_secret_is_stored(tmp_path):
    assert await served(tmp_path) == []
    (tmp_path / "secrets.key").write_text(new_key())
    assert await refused(tmp_path) == "SECRETS_KEY_DIFFERS"


async def test_a_database_without_a_fingerprint_is_told_by_its_secrets(data, monkeypatch):
    async with running_router(data) as router, router.client() as client:
        await client.secrets.delete("bank")
        await client.secrets.set("shop", b"hunter3")
    monkeypatch.setattr("router.process.credentials.KEY", "never stored before")
    key = (data / "secrets.key").read_text()
    (data / "secrets.key").write_text(new_key())
    assert await refused(data) == "SECRETS_KEY_DIFFERS"
    (data / "secrets.key").write_text(key)
    assert await served(data) == ["shop"]


async def test_a_new_key_is_taken_over_on_request_and_then_is_the_one(data):
    (data / "secrets.key").write_text(new_key())
    assert await served(data, discard_secrets=True) == []
    assert await served(data) == []


async def test_tokens_that_were_lost_are_said_to_be_new(data):
    (data / "tokens.json").unlink()
    with structlog.testing.capture_logs() as logs:
        await served(data)
    assert [entry["log_level"] for entry in logs if "all tokens are new" in entry["event"]] == ["warning"]
    with structlog.testing.capture_logs() as logs:
        await served(data)
    assert not [entry for entry in logs if "tokens" in entry["event"]]


def test_a_fingerprint_of_tokens_is_that_of_their_content_and_of_the_key(tmp_path):
    create_token(tmp_path, "shop", [TokenScope.INGEST])
    tokens = list_tokens(tmp_path)
    first = tokens_fingerprint(b"k" * 32, tokens)
    assert first == tokens_fingerprint(b"k" * 32, tokens[::-1])
    assert first != tokens_fingerprint(b"l" * 32, tokens)
    revoke_token(tmp_path, "shop")
    assert first != tokens_fingerprint(b"k" * 32, list_tokens(tmp_path))


@pytest.fixture
async def watched(data):
    """A watch of a data directory's files, with its process, what it logged, and the fingerprints of the tokens."""
    state, fingerprints = ProcessState(name="router-1", role="router"), []
    with structlog.testing.capture_logs() as logs:
        settings = RouterSettings(data_dir=data)
        watch = CredentialWatch(settings, state, load_secrets_key(data), changed=fingerprints.append, seconds=0.01)
        running = asyncio.create_task(watch.run())
        yield state, logs, fingerprints
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_key_that_is_exchanged_while_the_router_runs_is_said_until_it_is_back(data, watched):
    state, logs, _ = watched
    key = (data / "secrets.key").read_text()
    (data / "secrets.key").write_text(new_key())
    await until(lambda: "is not the key that this router runs with" in state.warnings.get("secrets_key", ""))
    (data / "secrets.key").unlink()
    await until(lambda: "No such file" in state.warnings.get("secrets_key", ""))
    assert not (data / "secrets.key").exists()
    (data / "secrets.key").touch(mode=0o600)
    (data / "secrets.key").write_text(key)
    await until(lambda: not state.warnings)
    assert [entry["log_level"] for entry in logs][:2] == ["error", "error"]
    assert logs[-1]["log_level"] == "info"
    assert key.strip() not in str(logs)


async def test_tokens_that_are_damaged_or_missing_are_said(data, watched):
    state, _, _ = watched
    content = (data / "tokens.json").read_bytes()
    (data / "tokens.json").write_bytes(content[:-10])
    await until(lambda: "is damaged" in state.warnings.get("tokens", ""))
    (data / "tokens.json").unlink()
    await until(lambda: "is missing" in state.warnings.get("tokens", ""))
    (data / "tokens.json").write_bytes(content)
    await until(lambda: not state.warnings)


@contextmanager
def no_descriptors():
    """Let this process open no file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_descriptors_that_are_used_up_are_not_said_to_be_files_that_are_missing(watched):
    state, logs, _ = watched
    with no_descriptors():
        await until(lambda: state.warnings)
        assert state.warnings.keys() == {"descriptors"}
        assert state.warnings["descriptors"].startswith("all file descriptors are used up (Too many open files)")
    await until(lambda: not state.warnings)
    assert [entry["log_level"] for entry in logs] == ["error", "info"]


def test_without_descriptors_a_token_is_not_said_to_be_unknown(tmp_path):
    token = create_token(tmp_path, "shop", [TokenScope.INGEST])
    verifier = TokenVerifier(tmp_path)
    with no_descriptors(), pytest.raises(UnavailableError, match="descriptors are used up"):
        verifier.find(token)
    assert verifier.find(token).name == "shop"


def test_without_descriptors_the_key_is_not_said_to_be_missing(tmp_path):
    key = load_secrets_key(tmp_path)
    with no_descriptors(), pytest.raises(UnavailableError, match="descriptors are used up"):
        check_key_stored(tmp_path, None, key)
    check_key_stored(tmp_path, None, key)


async def test_tokens_that_change_are_logged_by_name(data, watched):
    _, logs, fingerprints = watched
    await until(lambda: fingerprints)
    token = create_token(data, "shop", [TokenScope.INGEST])
    await until(lambda: len(fingerprints) == 2)
    revoke_token(data, "shop")
    await until(lambda: len(fingerprints) == 3)
    assert [(entry["created"], entry["revoked"]) for entry in logs if entry["event"] == "tokens changed"] == [
        (["shop"], []),
        ([], ["shop"]),
    ]
    assert fingerprints[0] == fingerprints[2] != fingerprints[1]
    assert token not in str(logs)
