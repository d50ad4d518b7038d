"""Bearer tokens: what is on disk, who is let in, and what damage does."""

from __future__ import annotations

import os
import stat
import threading

import pytest

from flowhook.errors import ConflictError, InvalidError, NotFoundError
from flowhook.private_files import write_private
from flowhook.tokens import (
    Scope,
    TokenVerifier,
    create_token,
    ensure_tokens,
    list_tokens,
    revoke_token,
)


def _token(data_dir, name):
    return (data_dir / f"{name}.token").read_text().strip()


def test_a_fresh_directory_gets_three_tokens_with_their_scopes(tmp_path):
    ensure_tokens(tmp_path)
    verifier = TokenVerifier(tmp_path)
    assert verifier.scopes(_token(tmp_path, "admin")) == set(Scope)
    assert verifier.scopes(_token(tmp_path, "edge")) == {Scope.INGEST, Scope.VERIFY}
    assert verifier.scopes(_token(tmp_path, "runner")) == {Scope.RUN}


def test_every_file_is_readable_by_its_owner_only(tmp_path):
    before = os.umask(0)
    try:
        ensure_tokens(tmp_path / "data")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()}
    assert set(modes.values()) == {0o600}
    assert {"tokens.json", "admin.token", "edge.token", "runner.token"} <= set(modes)


def test_no_token_stands_in_tokens_json(tmp_path):
    ensure_tokens(tmp_path)
    token = create_token(tmp_path, "billing", [Scope.INGEST])
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
    assert verifier.scopes("fhk_of_a_crashed_start") is None
    assert verifier.scopes(_token(tmp_path, "admin")) == set(Scope)


@pytest.mark.parametrize("token", ["", "fhk_", "fhk_wrong", "\udcff", "x" * 100_000])
def test_an_unknown_token_has_no_scopes(tmp_path, token):
    ensure_tokens(tmp_path)
    assert TokenVerifier(tmp_path).scopes(token) is None


def test_a_running_verifier_learns_of_new_and_revoked_tokens(tmp_path):
    ensure_tokens(tmp_path)
    verifier = TokenVerifier(tmp_path)
    assert verifier.scopes(_token(tmp_path, "edge")) is not None
    token = create_token(tmp_path, "billing", [Scope.INGEST])
    assert verifier.scopes(token) == {Scope.INGEST}
    revoke_token(tmp_path, "billing")
    assert verifier.scopes(token) is None


def test_a_revoked_built_in_token_takes_its_file_along(tmp_path):
    ensure_tokens(tmp_path)
    revoke_token(tmp_path, "edge")
    assert not (tmp_path / "edge.token").exists()
    assert [info.name for info in list_tokens(tmp_path)] == ["admin", "runner"]


def test_a_name_is_taken_once(tmp_path):
    create_token(tmp_path, "billing", [Scope.INGEST])
    with pytest.raises(ConflictError, match="billing"):
        create_token(tmp_path, "billing", [Scope.INGEST])


@pytest.mark.parametrize("name", ["", "../x", "a b", "-x", "x" * 64])
def test_a_name_that_could_be_a_path_is_refused(tmp_path, name):
    with pytest.raises(InvalidError):
        create_token(tmp_path, name, [Scope.INGEST])


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
    assert TokenVerifier(tmp_path).scopes(token) is None
    with pytest.raises(InvalidError, match=r"tokens\.json"):
        list_tokens(tmp_path)


def test_a_file_that_is_gone_lets_nobody_in(tmp_path):
    ensure_tokens(tmp_path)
    verifier = TokenVerifier(tmp_path)
    token = _token(tmp_path, "admin")
    assert verifier.scopes(token)
    (tmp_path / "tokens.json").unlink()
    assert verifier.scopes(token) is None


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidError, match="file/data"):
        ensure_tokens(tmp_path / "file" / "data")


def test_tokens_created_at_the_same_time_are_all_kept(tmp_path):
    ensure_tokens(tmp_path)
    threads = [threading.Thread(target=create_token, args=(tmp_path, f"t{n}", [Scope.RUN])) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list_tokens(tmp_path)) == 3 + 8
