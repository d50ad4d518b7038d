from __future__ import annotations

from urllib.parse import parse_qsl, quote_from_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowhook.signatures import (
    SignatureError,
    contains_credential,
    credentials_of,
    strip_query,
    without_credential_copies,
)
from flowhook.signatures.query import MAX_CREDENTIALS, MAX_PARAMETERS, parameter_values


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("", ""),
        ("api_key=x", ""),
        ("a=1&api_key=x&b=%20+", "a=1&b=%20+"),
        ("api%5Fkey=x&a=1", "a=1"),
        ("%61pi_%6bey=x&a=1&api_key", "a=1"),
        ("API_KEY=x&xapi_key=1", "API_KEY=x&xapi_key=1"),
        ("a=api_key&&b", "a=api_key&&b"),
        ("a=1;api_key=x&b=2;c", "b=2;c"),
        ("a;api%5fkey=x;b", ""),
    ],
)
def test_a_parameter_is_stripped_whatever_its_encoding_and_the_rest_stays_as_it_was(query, left):
    assert strip_query(query, {"api_key"}) == left


def test_a_name_with_a_space_is_found_as_plus_too():
    assert strip_query("api+key=1&api%20key=2&a=3", {"api key"}) == "a=3"


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["k", "%6B", "%6b", "a", "k%00", "+k"]), st.text("ab%=+", max_size=5))))
def test_what_a_flow_would_read_as_the_parameter_is_gone(fields):
    query = "&".join(f"{name}={value}" for name, value in fields)
    before = parse_qsl(query, keep_blank_values=True)
    after = parse_qsl(strip_query(query, {"k"}), keep_blank_values=True)
    assert after == [(name, value) for name, value in before if name != "k"]


def test_a_query_of_very_many_parameters_is_not_looked_through():
    names = "&".join(["%61"] * MAX_PARAMETERS)
    assert parameter_values(names, "a") == [(b"",)] * MAX_PARAMETERS
    with pytest.raises(SignatureError) as refusal:
        parameter_values(names + "&a=1", "a")
    assert refusal.value.reason == "SIGNATURE_MALFORMED"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", []),
        ("a=1&api_key=s%2Fcret+1", [b"s/cret+1"]),
        ("api%5Fkey=first&a=1;api_key=second;b", [b"first", b"second"]),
        ("api_key=abc&api_key", []),
        ("&".join(["api_key=sesame"] * 1000), [b"sesame"] * MAX_CREDENTIALS),
    ],
)
def test_what_was_sent_as_a_credential_is_found(query, found):
    assert credentials_of(query, {"api_key"}) == found


@given(st.binary(min_size=4, max_size=20), st.binary(max_size=10), st.binary(max_size=10), st.integers(0, 2))
def test_a_credential_is_found_in_whatever_it_is_encoded(credential, before, after, times):
    value = credential
    for _ in range(times):
        value = quote_from_bytes(value, safe="").encode()
    assert contains_credential(before.replace(b"%", b"") + value + after, [credential])


@given(st.lists(st.tuples(st.just("x"), st.binary(max_size=20))))
def test_headers_that_repeat_nothing_are_left_as_they_are(headers):
    fields = tuple(headers)
    retained = without_credential_copies(fields, [b"sesame"])
    assert retained == tuple(field for field in fields if b"sesame" not in field[1])
