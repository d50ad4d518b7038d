"""URLs that two flows could get a request for are found, however many there are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowhook.model.own_urls import OwnUrl
from router.flows.flow_urls import MAX_NAMED, collisions

PATHS = st.sampled_from(["/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/ab", "/b", "/a//b"])
URLS = st.builds(OwnUrl, st.sampled_from(["", "h", "i"]), PATHS, st.booleans())
FLOWS = st.dictionaries(st.sampled_from("abcdefgh"), URLS)


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
        if one != other and url.collides(theirs)
    }


def test_of_many_some_are_named():
    others = {f"o{number}": OwnUrl("", f"/o{number}") for number in range(3 * MAX_NAMED)}

    assert len(list(collisions({"all": OwnUrl("", "/", deeper=True)}, others))) == MAX_NAMED
