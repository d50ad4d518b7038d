from __future__ import annotations

import pytest
from support.cases import cases

from flowhook.document.models.auth import parse_auth, provider
from flowhook.document.models.credentials import ApiKeyAuth, BasicAuth
from flowhook.errors import InvalidError, UnauthenticatedError
from flowhook.signatures.build import build_verifiers, sign, sign_url
from flowhook.signatures.types import REASONS, RequestView, SignatureError, verify_any

NOW = 1_700_000_000.0
SECRETS = {"gh": b"sesame", "pw": b"open", "key": b"s3cret"}
AUTH = [{"github": {"secret": "gh"}}, {"basic": {"username": "bank", "secret": "pw"}}]


def request(headers, body=b"{}"):
    return RequestView("POST", "https://h/hook/x", "/hook/x", "", headers, body)


def signed_by(kind, body=b"{}"):
    added = sign(kind, SECRETS, method="POST", url="https://h/hook/x", body=body, headers=[], now=NOW)
    return [(name.lower(), value.encode()) for name, value in added]


def refusal(auth, headers, secrets=SECRETS):
    with pytest.raises(SignatureError) as caught:
        verify_any(build_verifiers(parse_auth(auth), secrets), request(headers), NOW)
    return caught.value


def test_none_lets_everybody_in():
    verifiers = build_verifiers(parse_auth("none"), {})
    assert verify_any(verifiers, request([]), NOW) == ("none", "")
    assert not any(verifier.needs_body for verifier in verifiers)


def test_no_verifiers_at_all_let_nobody_in():
    with pytest.raises(SignatureError):
        verify_any([], request([]), NOW)


def test_credentials_that_pass_win_whatever_the_others_say():
    verifiers = build_verifiers(parse_auth(AUTH), SECRETS)
    good = signed_by(BasicAuth(username="bank", secret="pw"))
    assert verify_any(verifiers, request([*good, ("x-hub-signature-256", b"nonsense")]), NOW) == ("basic", "pw")
    good = signed_by(provider("github", secret="gh"))
    assert verify_any(verifiers, request([*good, ("authorization", b"Basic !")]), NOW) == ("github", "gh")


@cases(
    ("headers", "secrets", "reason"),
    [
        ([], SECRETS, "SIGNATURE_MISSING"),
        ([("authorization", b"Basic YTpi")], SECRETS, "CREDENTIALS_WRONG"),
        ([("x-hub-signature-256", b"sha256=" + b"0" * 64)], SECRETS, "SIGNATURE_MISMATCH"),
        ([("x-hub-signature-256", b"sha1=00"), ("authorization", b"Basic YTpi")], SECRETS, "CREDENTIALS_WRONG"),
        ([], {"pw": b"open"}, "SECRET_NOT_SET"),
        ([("authorization", b"Basic YTpi")], {"pw": b"open"}, "CREDENTIALS_WRONG"),
    ],
)
def test_the_most_telling_refusal_is_reported(headers, secrets, reason):
    error = refusal(AUTH, headers, secrets)
    assert isinstance(error, UnauthenticatedError)
    assert error.reason == reason
    assert error.reason in REASONS


def test_only_signatures_need_the_body():
    needs = {kind: build_verifiers(parse_auth(auth), {})[0].needs_body for kind, auth in EVERY_KIND.items()}
    assert {kind for kind, needed in needs.items() if needed} == EVERY_KIND.keys() - {"basic", "api_key"}


EVERY_KIND = {
    "basic": {"basic": {"username": "bank", "secret": "pw"}},
    "api_key": {"api_key": {"query": "key", "secret": "key"}},
    "hmac": {"hmac": {"header": "X-Sig", "secret": "gh"}},
    "github": {"github": {"secret": "gh"}},
    "stripe": {"stripe": {"secret": "gh"}},
    "slack": {"slack": {"secret": "gh"}},
    "shopify": {"shopify": {"secret": "gh"}},
    "standard-webhooks": {"standard-webhooks": {"secret": "gh"}},
}


def test_basic_challenges_and_the_others_do_not():
    challenges = {kind: build_verifiers(parse_auth(auth), {})[0].challenge for kind, auth in EVERY_KIND.items()}
    assert challenges.pop("basic") == 'Basic realm="flowhook", charset="UTF-8"'
    assert set(challenges.values()) == {None}


def test_a_wrong_user_and_a_wrong_password_are_refused_alike():
    kinds = [BasicAuth(username="bank", secret="key"), BasicAuth(username="other", secret="pw")]
    auth = {"basic": {"username": "bank", "secret": "pw"}}
    assert len({str(refusal(auth, signed_by(kind))) for kind in kinds}) == 1


def test_a_key_in_the_query_joins_the_parameters_there_are():
    kind = ApiKeyAuth(query="api key", secret="key")
    secrets = {"key": b"a+b/c \xff"}
    assert sign_url(kind, secrets, "https://h/x") == "https://h/x?api%20key=a%2Bb%2Fc%20%FF"
    assert sign_url(kind, secrets, "https://h/x?a=1#top") == "https://h/x?a=1&api%20key=a%2Bb%2Fc%20%FF#top"
    assert sign(kind, secrets, method="GET", url="https://h/x", body=b"", headers=[], now=NOW) == []
    assert sign_url(provider("github", secret="gh"), SECRETS, "https://h/x") == "https://h/x"
    assert sign_url(None, {}, "https://h/x") == "https://h/x"


def test_the_key_is_named_for_stripping_where_it_stands():
    in_header, in_query = build_verifiers(
        [ApiKeyAuth(header="X-Api-Key", secret="key"), ApiKeyAuth(query="api_key", secret="key")], SECRETS
    )
    assert (in_header.credential_headers, in_header.credential_query) == ({"x-api-key"}, set())
    assert (in_query.credential_headers, in_query.credential_query) == (set(), {"api_key"})


def test_a_key_that_no_header_can_carry_is_not_sent():
    with pytest.raises(InvalidError, match="can't be sent in a header") as error:
        sign(
            ApiKeyAuth(header="X-Api-Key", secret="key"),
            {"key": b"hush\r\nX: y"},
            method="POST",
            url="",
            body=b"",
            headers=[],
            now=NOW,
        )
    assert "hush" not in str(error.value)


@pytest.mark.parametrize(
    "auth", [{"api_key": {"header": "X", "secret": "k"}}, {"basic": {"username": "u", "secret": "k"}}], ids=str
)
def test_what_is_known_by_its_hash_alone_can_not_be_shown(auth):
    (kind,) = parse_auth(auth)
    with pytest.raises(InvalidError, match="secret k is a hash") as error:
        sign(kind, {"k": b"$sha256$" + b"0" * 64}, method="POST", url="", body=b"", headers=[], now=NOW)
    assert error.value.reason == "CANNOT_SIGN"
