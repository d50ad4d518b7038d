"""Sessions end in time, and only their own IDs find them."""

from __future__ import annotations

import base64

import pytest

from admin.security import sessions
from admin.security.sessions import MAX_AGE_SECONDS, MAX_IDLE_SECONDS, LoginRole, LoginSessions


@pytest.fixture
def store():
    return LoginSessions()


def test_a_session_is_found_by_its_id_with_its_token_and_role(store):
    session_id = store.begin("fhk_a", LoginRole.VIEWER, 0.0)
    session = store.find(session_id, 1.0)
    assert (session.token, session.role) == ("fhk_a", LoginRole.VIEWER)


@pytest.mark.parametrize("session_id", ["", "x", "☃", "\udc80"])
def test_another_id_finds_none(store, session_id):
    store.begin("fhk_a", LoginRole.VIEWER, 0.0)
    assert store.find(session_id, 1.0) is None


def test_two_sessions_of_one_token_are_two(store):
    first, second = store.begin("fhk_a", LoginRole.OPERATOR, 0.0), store.begin("fhk_a", LoginRole.OPERATOR, 0.0)
    assert first != second
    assert not store.find(first, 0.0).has_csrf_token(store.find(second, 0.0).csrf_token())


def test_a_session_ends_after_a_time_without_requests(store):
    session_id = store.begin("fhk_a", LoginRole.VIEWER, 0.0)
    assert store.find(session_id, MAX_IDLE_SECONDS - 1)
    assert store.find(session_id, 2 * MAX_IDLE_SECONDS - 2)
    assert store.find(session_id, 3 * MAX_IDLE_SECONDS - 2) is None
    assert len(store) == 0


def test_a_session_ends_at_last_however_often_it_is_used(store):
    session_id = store.begin("fhk_a", LoginRole.VIEWER, 0.0)
    now = 0.0
    while now + MAX_IDLE_SECONDS / 2 < MAX_AGE_SECONDS:
        now += MAX_IDLE_SECONDS / 2
        assert store.find(session_id, now)
    assert store.find(session_id, MAX_AGE_SECONDS) is None


def test_a_session_that_was_ended_is_found_no_more(store):
    session_id = store.begin("fhk_a", LoginRole.VIEWER, 0.0)
    store.end(session_id)
    store.end("unknown")
    assert store.find(session_id, 0.0) is None


def test_beyond_the_limit_the_one_that_is_idle_longest_ends(store, monkeypatch):
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)
    first, second = store.begin("fhk_a", LoginRole.VIEWER, 0.0), store.begin("fhk_b", LoginRole.VIEWER, 1.0)
    store.find(first, 2.0)
    third = store.begin("fhk_c", LoginRole.VIEWER, 3.0)
    assert [store.find(each, 4.0) is not None for each in (first, second, third)] == [True, False, True]


def test_sessions_that_expired_take_no_place(store):
    store.begin("fhk_a", LoginRole.VIEWER, 0.0)
    store.begin("fhk_b", LoginRole.VIEWER, MAX_AGE_SECONDS)
    assert len(store) == 1


def test_only_the_csrf_token_of_the_session_is_one(store):
    session = store.find(store.begin("fhk_a", LoginRole.OPERATOR, 0.0), 0.0)
    token = session.csrf_token()
    assert session.has_csrf_token(token)
    for other in ("", "☃", "\udc80", token[:-1], token[:-4], token + "x", token + "AAAA", "A" * 88):
        assert not session.has_csrf_token(other)


def test_a_session_does_not_print_its_secrets(store):
    session = store.find(store.begin("fhk_secret", LoginRole.OPERATOR, 0.0), 0.0)
    assert "fhk_secret" not in repr(session)
    assert repr(session.csrf_secret) not in repr(session)


def test_no_two_forms_have_the_same_token_and_none_has_the_secret(store):
    session = store.find(store.begin("fhk_a", LoginRole.OPERATOR, 0.0), 0.0)
    tokens = {session.csrf_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(session.has_csrf_token(token) for token in tokens)
    decoded = [base64.urlsafe_b64decode(token) for token in tokens]
    assert not any(session.csrf_secret in each for each in decoded)


def test_a_look_that_is_no_use_does_not_prolong_a_session(store):
    session_id = store.begin("fhk_a", LoginRole.VIEWER, 0.0)
    assert store.find(session_id, MAX_IDLE_SECONDS - 1, use=False) is not None
    assert store.find(session_id, MAX_IDLE_SECONDS, use=False) is None
    assert len(store) == 0


def test_logins_with_one_token_do_not_end_the_sessions_of_another(store, monkeypatch):
    monkeypatch.setattr(sessions, "MAX_PER_TOKEN", 2)
    other = store.begin("fhk_a", LoginRole.OPERATOR, 0.0)
    first, second, third = (store.begin("fhk_b", LoginRole.VIEWER, float(number)) for number in range(3))
    assert store.find(first, 3.0) is None
    assert store.find(second, 3.0)
    assert store.find(third, 3.0)
    assert store.find(other, 3.0)
