"""`execution.search` of a flow file, and what is said of one that can't be read."""

import pytest
from support.cases import cases

from flowhook.document.loader import parse
from flowhook.errors import InvalidFlowError

HEAD = "document: {dsl: 1.0.3, namespace: default, name: f, version: 1.0.0}\ndo: [{a: {set: {x: 1}}}]\nexecution:\n"


def read(search):
    return parse(f"{HEAD}  search: {search}\n".encode(), file="f.yaml")


def test_attributes_are_paths_with_markers_or_without():
    search = read("{order: .body.order, customer-id: '${ .body.customer[\"id\"] }'}").execution.search
    assert search == {"order": ".body.order", "customer-id": '${ .body.customer["id"] }'}
    assert parse(HEAD.replace("execution:\n", "").encode(), file="f").execution.search == {}


@cases(
    ("search", "line", "key", "cause"),
    [
        ("\n    order: .body | keys", 5, "execution.search.order", "expected a path such as .body.a"),
        ("\n    a: .a\n    order: $x.y", 6, "execution.search.order", "unknown variable $x"),
        ("{order: 3}", 4, "execution.search.order", "expected a string"),
        ("{'or der': .a}", 4, "execution.search['or der']", "does not match"),
        ("{'': .a}", 4, "execution.search['']", "does not match"),
        ("[.a]", 4, "execution.search", "expected a mapping"),
        ("{" + ", ".join(f"a{number}: .a" for number in range(9)) + "}", 4, "execution.search", "at most 8"),
    ],
)
def test_what_is_wrong_is_said_with_its_line_and_key(search, line, key, cause):
    with pytest.raises(InvalidFlowError) as refusal:
        read(search)
    [fault] = refusal.value.faults
    assert (fault.line, fault.key) == (line, key)
    assert cause in fault.cause
