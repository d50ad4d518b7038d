"""A router's data directory: who can read it, and what becomes of secrets whose key is gone."""

from __future__ import annotations

import base64
import os
import secrets
import stat

import pytest
from support.routers import running_router

from flowhook.errors import ConflictError


def modes(directory):
    """Return the modes that there are: of directories, and of files."""
    paths = [directory, *directory.rglob("*")]
    return [{stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir() is kind} for kind in (True, False)]


async def test_a_directory_that_others_could_read_is_private_from_the_start_on(tmp_path):
    data = tmp_path / "data"
    async with running_router(data):
        pass
    (data / "run").mkdir()
    (data / "run" / "edge-1.pid").write_text("1")
    (data / "blobs" / "ab").mkdir(parents=True)
    for path in (data, *data.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    async with running_router(data):
        assert modes(data) == [{0o700}, {0o600}]


async def test_the_umask_does_not_matter(tmp_path):
    before = os.umask(0)
    try:
        async with running_router(tmp_path / "data") as router, router.client() as client:
            await client.secrets.set("bank", b"hunter2")
            assert modes(tmp_path / "data") == [{0o700}, {0o600}]
    finally:
        os.umask(before)


@pytest.fixture
async def keyless(tmp_path):
    """A data directory with a secret, and without the key that it is encrypted with."""
    async with running_router(tmp_path / "data") as router, router.client() as client:
        await client.secrets.set("bank", b"hunter2")
    key = (tmp_path / "data" / "secrets.key").read_bytes()
    (tmp_path / "data" / "secrets.key").unlink()
    return tmp_path / "data", key


async def test_secrets_without_their_key_keep_the_router_from_starting_and_no_key_is_made(keyless):
    data, key = keyless
    with pytest.raises(ConflictError, match=r"restore it.*--discard-secrets") as caught:
        async with running_router(data):
            pass
    assert caught.value.reason == "SECRETS_KEY_MISSING"
    assert not (data / "secrets.key").exists()

    (data / "secrets.key").write_bytes(key)
    async with running_router(data) as router, router.client("runner") as runner:
        assert await runner.secrets.resolve(["bank"]) == {"bank": b"hunter2"}


async def test_no_secret_is_set_while_the_key_that_the_next_start_needs_is_missing(tmp_path):
    async with running_router(tmp_path / "data") as router, router.client() as client:
        path = tmp_path / "data" / "secrets.key"
        for wrong in (None, base64.b64encode(b"o" * 32)):
            key = path.read_bytes()
            path.unlink() if wrong is None else path.write_bytes(wrong)
            with pytest.raises(ConflictError, match="would be lost") as caught:
                await client.secrets.set("bank", b"hunter2")
            assert caught.value.reason == "SECRETS_KEY_MISSING"
            path.touch(0o600)
            path.write_bytes(key)
        await client.secrets.set("bank", b"hunter2")


async def test_the_key_of_the_environment_will_do(keyless):
    data, key = keyless
    async with running_router(data, secrets_key=key.decode().strip()) as router, router.client("runner") as runner:
        assert await runner.secrets.resolve(["bank"]) == {"bank": b"hunter2"}


async def test_secrets_whose_key_is_gone_are_discarded_on_request(keyless):
    data, _ = keyless
    async with running_router(data, discard_secrets=True) as router, router.client() as client:
        assert await client.secrets.list() == []
        await client.secrets.set("bank", b"hunter3")
    async with running_router(data, discard_secrets=True) as router, router.client("runner") as runner:
        assert await runner.secrets.resolve(["bank"]) == {"bank": b"hunter3"}


async def test_another_key_of_the_environment_discards_them_only_on_request(keyless):
    data, _ = keyless
    other = base64.b64encode(secrets.token_bytes(32)).decode()
    with pytest.raises(ConflictError) as caught:
        async with running_router(data, secrets_key=other):
            pass
    assert caught.value.reason == "SECRETS_KEY_DIFFERS"
    async with running_router(data, discard_secrets=True, secrets_key=other) as router, router.client() as client:
        assert await client.secrets.list() == []


async def test_without_secrets_a_new_key_is_made(tmp_path):
    async with running_router(tmp_path / "data"):
        pass
    (tmp_path / "data" / "secrets.key").unlink()
    async with running_router(tmp_path / "data"):
        assert (tmp_path / "data" / "secrets.key").exists()
