"""The flows of a campaign are valid, and make the calls that the verdict expects."""

from support.cases import cases

from chaos import flows
from flowhook.document.diagnostics.lint import located_warnings
from flowhook.document.loader import parse
from flowhook.security.address_policy import AddressPolicy

URLS = {False: "http://127.0.0.1:1", True: "http://127.0.0.1:2"}


@cases("flow", flows.FLOWS.values(), ids=flows.FLOWS)
def test_a_flow_is_valid_and_makes_its_calls(flow):
    content = flow.document(URLS)
    document = parse(content)
    assert document.id == flow.name
    assert located_warnings(document, content, file="flow.yaml", policy=AddressPolicy.LOOPBACK) == []
    urls = [f"{URLS[flow.unreliable]}/{step}'".encode() for step in flow.after]
    assert [content.count(url) for url in urls] == [1] * len(urls)
    assert content.count(b"call: http") == len(urls)


def test_no_two_flows_have_a_step_in_common():
    steps = [step for flow_id in flows.FLOWS for step in flows.steps(flow_id)]
    assert len(steps) == len(set(steps))
