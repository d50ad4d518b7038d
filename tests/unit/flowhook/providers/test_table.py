from typing import get_args

import pytest

from edge.webhook import handshakes
from flowhook.document.models.auth import KINDS, ProviderAuth, PublicKeyProvider, SecretProvider, derive_model
from flowhook.providers import PROVIDERS, Handshake, Provider
from flowhook.providers.scheme import SHARED, Scheme, SignatureMethod, at, sent
from flowhook.signatures.build import build_verifiers, sign
from flowhook.signatures.types import RequestView, SignatureError

NOW = 1_800_000_000.0
ROW = Provider(
    "acme",
    "https://acme.example/docs/webhooks",
    Scheme(sent("X-Acme-Signature"), tag="sha256=", delivery=(at("X-Acme-Delivery"),)),
    Handshake.ECHO_QUERY_CHALLENGE,
)


def test_each_provider_is_one_row_and_names_its_page():
    assert set(PROVIDERS) == {name for name, model in KINDS.items() if issubclass(model, ProviderAuth)}
    assert all(row.source.startswith("https://") for row in PROVIDERS.values())


def test_each_handshake_is_implemented():
    assert {row.handshake for row in PROVIDERS.values()} - {None} == set(Handshake)
    assert set(Handshake) == handshakes.IMPLEMENTED


def test_a_row_is_all_that_a_provider_with_a_common_scheme_needs(monkeypatch):
    monkeypatch.setitem(PROVIDERS, ROW.name, ROW)
    kind = derive_model(ROW).model_validate({"secret": "key"})
    assert (kind.names_deliveries, kind.handshake) == (True, Handshake.ECHO_QUERY_CHALLENGE)

    secrets = {"key": b"s3cret"}
    added = sign(kind, secrets, method="POST", url="https://x.y/", body=b"{}", headers=[], now=NOW)
    (verifier,) = build_verifiers([kind], secrets)
    headers = [(name.lower(), value.encode()) for name, value in added]
    assert verifier.verify(RequestView("POST", "https://x.y/", "/", "", headers, b"{}"), NOW).secret == "key"
    with pytest.raises(SignatureError):
        verifier.verify(RequestView("POST", "https://x.y/", "/", "", headers, b"[]"), NOW)


@pytest.mark.parametrize("method", get_args(SignatureMethod))
def test_a_signature_with_a_private_key_is_verified_by_a_public_key_of_the_flow_file(method):
    row = Provider("acme", "https://acme.example", Scheme(sent("X-Acme-Signature"), method=method))
    assert issubclass(derive_model(row), SecretProvider if method in SHARED else PublicKeyProvider)
    assert not row.names_deliveries
