"""URLs that two flows could get a request for are found, however many there are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.cases import cases

from flowhook.model.own_urls import OwnUrl, below
from router.flows.flow_urls import MAX_NAMED, collisions

PATHS = st.sampled_from(["/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/ab", "/b", "/a//b"])
URLS = st.builds(OwnUrl, st.sampled_from(["", "h", "i"]), PATHS, st.booleans())
FLOWS = st.dictionaries(st.sampled_from("abcdefgh"), URLS)


def could_be_for_both(one, other):
    """Whether a request could be for both URLs."""
    if one.host and other.host and one.host != other.host:
        return False
    return (
        one.path == other.path
        or (one.deeper and other.path.startswith(below(one.path)))
        or (other.deeper and one.path.startswith(below(other.path)))
    )


@cases(
    ("one", "other", "collide"),
    [
        (OwnUrl("", "/a"), OwnUrl("", "/a"), True),
        (OwnUrl("h", "/a"), OwnUrl("", "/a"), True),
        (OwnUrl("h", "/a"), OwnUrl("i", "/a"), False),
        (OwnUrl("", "/a"), OwnUrl("", "/a/b"), False),
        (OwnUrl("", "/a", deeper=True), OwnUrl("", "/a/b"), True),
        (OwnUrl("", "/a", deeper=True), OwnUrl("", "/ab"), False),
        (OwnUrl("", "/", deeper=True), OwnUrl("h", "/x/y"), True),
        (OwnUrl("", "/"), OwnUrl("", "/x"), False),
        (OwnUrl("", "/a/", deeper=True), OwnUrl("", "/a"), False),
        (OwnUrl("", "/a/", deeper=True), OwnUrl("", "/a/b"), True),
    ],
)
def test_two_urls_collide_if_a_request_could_be_for_both(one, other, collide):
    assert could_be_for_both(one, other) is could_be_for_both(other, one) is collide
    assert bool(list(collisions({"a": one}, {"b": other}))) is collide


@given(FLOWS, FLOWS)
def test_each_pair_is_found_that_a_request_could_be_for(applied, others):
    found = {
        (fault.file, fault.cause.split()[5].rstrip(","))
        for fault in collisions(applied, others, {f: f for f in applied})
    }

    everything = others | applied
    assert found == {
        (one, other)
        for one, url in applied.items()
        for other, theirs in everything.items()
        if one != other and could_be_for_both(url, theirs)
    }


def test_of_many_some_are_named():
    others = {f"o{number}": OwnUrl("", f"/o{number}") for number in range(3 * MAX_NAMED)}

    assert len(list(collisions({"all": OwnUrl("", "/", deeper=True)}, others))) == MAX_NAMED
