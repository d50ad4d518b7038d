"""Bearer tokens: what is on disk, who is let in, and what damage does."""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
import threading
import time
from pathlib import Path

import orjson
import pytest
from support.clocks import Clock

from flowhook.errors import ConflictError, InvalidError, NotFoundError
from flowhook.security.private_files import write_private
from flowhook.security.tokens import (
    FILE,
    MAX_EARLIER,
    MAX_OVERLAP_SECONDS,
    TokenScope,
    TokenVerifier,
    create_token,
    ensure_tokens,
    last_uses,
    list_tokens,
    revoke_token,
    rotate_token,
)


def _token(data_dir, name):
    return (data_dir / f"{name}.token").read_text().strip()


def _scopes(verifier, token):
    grant = verifier.find(token)
    return None if grant is None else grant.scopes


def test_a_fresh_directory_gets_four_tokens_with_their_scopes(tmp_path):
    ensure_tokens(tmp_path)
    verifier = TokenVerifier(tmp_path)
    assert _scopes(verifier, _token(tmp_path, "admin")) == set(TokenScope)
    assert _scopes(verifier, _token(tmp_path, "edge")) == {TokenScope.INGEST, TokenScope.VERIFY}
    assert _scopes(verifier, _token(tmp_path, "runner")) == {TokenScope.RUN}
    assert _scopes(verifier, _token(tmp_path, "view")) == {TokenScope.VIEW}


def test_every_file_is_readable_by_its_owner_only(tmp_path):
    before = os.umask(0)
    try:
        ensure_tokens(tmp_path / "data")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()}
    assert set(modes.values()) == {0o600}
    assert {"tokens.json", "admin.token", "edge.token", "runner.token", "view.token"} <= set(modes)


def test_no_token_stands_in_tokens_json(tmp_path):
    ensure_tokens(tmp_path)
    token = create_token(tmp_path, "billing", [TokenScope.INGEST])
    content = (tmp_path / "tokens.json").read_text()
    assert token not in content
    assert _token(tmp_path, "admin") not in content


def test_ensuring_again_keeps_every_token(tmp_path):
    ensure_tokens(tmp_path)
    before = _token(tmp_path, "admin")
    ensure_tokens(tmp_path)
    assert _token(tmp_path, "admin") == before


def test_a_start_that_crashed_half_way_is_done_again(tmp_path):
    write_private(tmp_path / "admin.token", b"fhk_of_a_crashed_start\n")
    ensure_tokens(tmp_path)
    verifier = TokenVerifier(tmp_path)
    assert _scopes(verifier, "fhk_of_a_crashed_start") is None
    assert _scopes(verifier, _token(tmp_path, "admin")) == set(TokenScope)


@pytest.mark.parametrize("token", ["", "fhk_", "fhk_wrong", "\udcff", "x" * 100_000])
def test_an_unknown_token_has_no_scopes(tmp_path, token):
    ensure_tokens(tmp_path)
    assert _scopes(TokenVerifier(tmp_path), token) is None


def test_a_running_verifier_learns_of_new_and_revoked_tokens(tmp_path):
    ensure_tokens(tmp_path)
    verifier = TokenVerifier(tmp_path)
    assert _scopes(verifier, _token(tmp_path, "edge")) is not None
    token = create_token(tmp_path, "billing", [TokenScope.INGEST])
    assert _scopes(verifier, token) == {TokenScope.INGEST}
    revoke_token(tmp_path, "billing")
    assert _scopes(verifier, token) is None


def test_a_revoked_built_in_token_takes_its_file_along(tmp_path):
    ensure_tokens(tmp_path)
    revoke_token(tmp_path, "edge")
    assert not (tmp_path / "edge.token").exists()
    assert [info.name for info in list_tokens(tmp_path)] == ["admin", "runner", "view"]


def test_a_name_is_taken_once(tmp_path):
    create_token(tmp_path, "billing", [TokenScope.INGEST])
    with pytest.raises(ConflictError, match="billing"):
        create_token(tmp_path, "billing", [TokenScope.INGEST])


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "x" * 64])
def test_a_name_that_could_be_a_path_is_refused(tmp_path, name):
    with pytest.raises(InvalidError):
        create_token(tmp_path, name, [TokenScope.INGEST])


def test_a_token_without_scopes_is_refused(tmp_path):
    with pytest.raises(InvalidError):
        create_token(tmp_path, "billing", [])


def test_revoking_what_is_not_there_says_so(tmp_path):
    ensure_tokens(tmp_path)
    with pytest.raises(NotFoundError):
        revoke_token(tmp_path, "billing")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'[{"name": "x", "scopes": ["root"], "sha256": "00"}]', b"\xff"]
)
def test_a_damaged_file_lets_nobody_in_and_is_named(tmp_path, content):
    ensure_tokens(tmp_path)
    token = _token(tmp_path, "admin")
    write_private(tmp_path / "tokens.json", content)
    assert _scopes(TokenVerifier(tmp_path), token) is None
    with pytest.raises(InvalidError, match=r"tokens\.json"):
        list_tokens(tmp_path)


def test_a_file_that_is_gone_lets_nobody_in(tmp_path):
    ensure_tokens(tmp_path)
    verifier = TokenVerifier(tmp_path)
    token = _token(tmp_path, "admin")
    assert _scopes(verifier, token)
    (tmp_path / "tokens.json").unlink()
    assert _scopes(verifier, token) is None


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidError, match="file/data"):
        ensure_tokens(tmp_path / "file" / "data")


def test_tokens_created_at_the_same_time_are_all_retained(tmp_path):
    ensure_tokens(tmp_path)
    threads = [threading.Thread(target=create_token, args=(tmp_path, f"t{n}", [TokenScope.RUN])) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list_tokens(tmp_path)) == 4 + 8


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def verifier(tmp_path, clock):
    """A verifier whose clock is at the time of the system's, and goes on as a test says."""
    ensure_tokens(tmp_path)
    clock.now = time.time()
    return TokenVerifier(tmp_path, now=clock)


def test_an_expired_token_is_none(tmp_path, verifier, clock):
    token = create_token(tmp_path, "billing", [TokenScope.INGEST], expires_in=3600)
    assert _scopes(verifier, token) == {TokenScope.INGEST}
    clock.now += 3601
    assert _scopes(verifier, token) is None


def test_a_rotated_token_has_two_values_until_the_overlap_ends(tmp_path, verifier, clock):
    before = create_token(tmp_path, "billing", [TokenScope.INGEST], flows=["orders"])
    after = rotate_token(tmp_path, "billing", overlap=3600)
    for token in (before, after):
        assert verifier.find(token)[:3] == ("billing", {TokenScope.INGEST}, {"orders"})
    clock.now += 3601
    assert _scopes(verifier, before) is None
    assert _scopes(verifier, after) == {TokenScope.INGEST}


def test_without_an_overlap_the_value_before_is_good_no_more(tmp_path, verifier):
    before = create_token(tmp_path, "billing", [TokenScope.INGEST])
    after = rotate_token(tmp_path, "billing", overlap=0)
    assert (_scopes(verifier, before), _scopes(verifier, after)) == (None, {TokenScope.INGEST})


def test_an_overlap_goes_not_beyond_the_end_of_the_value_before(tmp_path, verifier, clock):
    before = create_token(tmp_path, "billing", [TokenScope.INGEST], expires_in=60)
    after = rotate_token(tmp_path, "billing", overlap=3600, expires_in=7200)
    clock.now += 61
    assert (_scopes(verifier, before), _scopes(verifier, after)) == (None, {TokenScope.INGEST})


def test_a_built_in_token_is_rotated_in_its_file(tmp_path, verifier):
    before = _token(tmp_path, "edge")
    after = rotate_token(tmp_path, "edge", overlap=3600)
    assert _token(tmp_path, "edge") == after
    assert _scopes(verifier, before) == _scopes(verifier, after) == {TokenScope.INGEST, TokenScope.VERIFY}


@pytest.mark.parametrize("step", range(3))
def test_a_crash_while_a_token_is_rotated_leaves_one_that_is_good(tmp_path, verifier, monkeypatch, step):
    """Whatever write was the last that was done, and with no overlap."""
    replaces = itertools.count()

    def replace(self, target, real=Path.replace):
        if next(replaces) == step:
            raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            rotate_token(tmp_path, "edge", overlap=0)
    ensure_tokens(tmp_path)
    assert _scopes(verifier, _token(tmp_path, "edge")) == {TokenScope.INGEST, TokenScope.VERIFY}
    assert not list(tmp_path.glob(".edge.token*"))
    after = rotate_token(tmp_path, "edge", overlap=0)
    assert _token(tmp_path, "edge") == after


def test_revoking_a_token_revokes_the_values_it_had(tmp_path, verifier):
    before = create_token(tmp_path, "billing", [TokenScope.INGEST])
    after = rotate_token(tmp_path, "billing", overlap=3600)
    revoke_token(tmp_path, "billing")
    assert (_scopes(verifier, before), _scopes(verifier, after)) == (None, None)


def test_few_values_of_a_token_are_good_at_a_time(tmp_path):
    create_token(tmp_path, "billing", [TokenScope.INGEST])
    for _ in range(MAX_EARLIER):
        rotate_token(tmp_path, "billing", overlap=3600)
    with pytest.raises(ConflictError) as caught:
        rotate_token(tmp_path, "billing", overlap=3600)
    assert caught.value.reason == "TOKEN_OVERLAPS"


@pytest.mark.parametrize("overlap", [-1, MAX_OVERLAP_SECONDS + 1, float("nan")])
def test_an_overlap_has_bounds(tmp_path, overlap):
    create_token(tmp_path, "billing", [TokenScope.INGEST])
    with pytest.raises(InvalidError) as caught:
        rotate_token(tmp_path, "billing", overlap=overlap)
    assert caught.value.reason == "TOKEN_OVERLAP_INVALID"


@pytest.mark.parametrize(
    ("scopes", "flows"),
    [
        ([TokenScope.INGEST, TokenScope.VIEW], ["a"]),
        ([TokenScope.ADMIN], ["a"]),
        ([TokenScope.INGEST], ["a"] * 101),
        ([TokenScope.INGEST], [""]),
    ],
)
def test_a_token_for_some_flows_hands_in_events_and_no_more(tmp_path, scopes, flows):
    with pytest.raises(InvalidError) as caught:
        create_token(tmp_path, "billing", scopes, flows=flows)
    assert caught.value.reason == "TOKEN_FLOWS_INVALID"


def test_when_tokens_were_used_is_retained_over_restarts(tmp_path, verifier, clock):
    verifier.find(_token(tmp_path, "edge"))
    verifier.find("fhk_wrong")
    verifier.save_uses()
    first = int(clock.now)
    again = TokenVerifier(tmp_path, now=clock)
    clock.now += 100
    again.find(_token(tmp_path, "admin"))
    again.save_uses()
    names = {info.sha256: info.name for info in list_tokens(tmp_path)}
    used = {names[sha256]: moment for sha256, moment in last_uses(tmp_path).items()}
    assert used == {"edge": first, "admin": int(clock.now)}


def test_uses_are_not_forgotten_while_the_tokens_cannot_be_read(tmp_path, verifier):
    token = _token(tmp_path, "edge")
    verifier.find(token)
    verifier.save_uses()
    verifier.find(token)
    write_private(tmp_path / "tokens.json", b"{")
    assert verifier.find(token) is None
    verifier.save_uses()
    assert len(last_uses(tmp_path)) == 1


def test_nothing_is_written_when_no_token_was_used(tmp_path, verifier):
    verifier.save_uses()
    assert not (tmp_path / "tokens.used.json").exists()


def test_uses_that_cannot_be_read_are_not_known(tmp_path, verifier):
    write_private(tmp_path / "tokens.used.json", b"[1")
    assert last_uses(tmp_path) == {}
    assert _scopes(TokenVerifier(tmp_path), _token(tmp_path, "edge"))


def test_the_empty_token_is_unknown_whatever_the_file_contains(tmp_path):
    create_token(tmp_path, "empty", [TokenScope.VIEW])
    path = tmp_path / FILE
    infos = orjson.loads(path.read_bytes())
    for info in infos:
        info["sha256"] = hashlib.sha256().hexdigest()
    path.write_bytes(orjson.dumps(infos))
    assert TokenVerifier(tmp_path).find("") is None
