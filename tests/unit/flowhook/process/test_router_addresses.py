"""One or several addresses of routers in one setting."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from support.cases import cases

from flowhook.errors import InvalidError
from flowhook.process.router_addresses import MAX_ROUTERS, split_addresses
from flowhook.process.settings import CommonSettings


@pytest.mark.parametrize(
    ("target", "addresses"),
    [
        ("127.0.0.1:50051", ("127.0.0.1:50051",)),
        ("dns:///router:50051", ("dns:///router:50051",)),
        ("[::1]:50051,b:2", ("[::1]:50051", "b:2")),
        ("a:1, b:2 ,c:3", ("a:1", "b:2", "c:3")),
        ("a:1,b:2,a:1", ("a:1", "b:2")),
    ],
)
def test_addresses_are_separated_by_commas_and_used_once(target, addresses):
    assert split_addresses(target) == addresses


@cases("target", ["", "router", "a:1,", "a:1,,b:2", "a:1,b", "http://a:1", "a:1,https://b:2"])
def test_each_of_them_has_a_port_and_no_scheme(target):
    with pytest.raises(InvalidError, match="expected HOST:PORT") as refused:
        split_addresses(target)
    assert refused.value.reason == "ROUTER_INVALID"


def test_of_several_the_wrong_one_is_named():
    with pytest.raises(InvalidError, match="'b' is none"):
        split_addresses("a:1,b")


def test_there_are_not_too_many():
    most = [f"router-{number}:50051" for number in range(MAX_ROUTERS)]
    assert split_addresses(",".join(most)) == tuple(most)
    with pytest.raises(InvalidError, match="at most 16") as refused:
        split_addresses(",".join([*most, "one-more:50051"]))
    assert refused.value.reason == "ROUTER_INVALID"


def test_settings_have_them_in_one_form(monkeypatch):
    monkeypatch.setenv("FLOWHOOK_ROUTER", "a:1, b:2")
    assert CommonSettings().router == "a:1,b:2"
    monkeypatch.setenv("FLOWHOOK_ROUTER", "a:1,b")
    with pytest.raises(ValidationError, match="'b' is none"):
        CommonSettings()
