"""The `type` of problem details, of an edge that knows where the documentation is."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from edge.http import responses
from edge.http.responses import ProblemTypes
from flowhook.process.settings import EdgeSettings

DOCS = "https://flowhook.example.com/docs"


async def test_refusals_of_requests_and_of_connections_have_the_url_of_their_reason(start_edge, open_flow):
    edge = await start_edge(docs_url=f"{DOCS}/")
    refused = await edge.post("/hook/open", b"{")
    assert refused.json()["type"] == f"{DOCS}/http#body_invalid"
    sender = await edge.connect()
    sender.write(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    malformed = await sender.response()
    assert malformed.json()["type"] == f"{DOCS}/http#host_invalid"
    assert (await edge.post("/hook/open")).status == 202


async def test_they_have_none_without_it(edge, open_flow):
    assert (await edge.post("/hook/open", b"{")).json()["type"] == "about:blank"


def test_what_is_no_problem_is_as_it_was():
    response = responses.build_response(502, (), b"broken", reason="FLOW_FAULTED")

    assert ProblemTypes(DOCS).of(response) == response


@pytest.mark.parametrize(
    "url", ["docs", "ftp://a.example/docs", "https://a.example/docs?x=1", 'https://a.example/"', "https:///x"]
)
def test_a_url_that_is_none_is_refused(url, tmp_path):
    with pytest.raises(ValidationError):
        EdgeSettings(data_dir=tmp_path, docs_url=url)
