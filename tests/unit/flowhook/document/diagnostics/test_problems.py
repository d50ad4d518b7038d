from flowhook.document.diagnostics.problems import Code, Mark, Problem, key_of, suggestion, to_fault
from flowhook.errors import Fault


def test_a_key_is_written_as_its_author_knows_it():
    assert key_of(()) == ""
    assert key_of(("do", 0, "announce", "call")) == "do[0].announce.call"
    assert key_of(("set", "a.b", "c d", "", "x-y")) == "set['a.b']['c d'][''].x-y"


def test_a_fault_takes_its_line_from_the_path_unless_the_problem_knows_better():
    root = Mark(1, {"a": Mark(2, {0: Mark(3)})})
    assert to_fault(Problem(("a", 0, "b"), Code.KEY_UNKNOWN, "is wrong"), file="f.yaml", root=root) == Fault(
        "f.yaml", 3, "a[0].b", "is wrong", "KEY_UNKNOWN"
    )
    assert to_fault(Problem(("a",), Code.KEY_UNKNOWN, "is wrong", 9), file="f.yaml", root=root).line == 9


def test_a_suggestion_is_made_only_for_what_is_alike():
    assert suggestion("wth", ["with", "call"]) == ", did you mean 'with'?"
    assert suggestion("xyz", ["with", "call"]) == ""
    assert suggestion("when", ["then"]) == ""  # as many letters in common, and yet no typing error
    assert suggestion("nput", ["input"]) == ", did you mean 'input'?"
    assert suggestion("", ["", "a"]) == ", did you mean ''?"


def test_a_suggestion_does_not_mind_upper_and_lower_case():
    assert suggestion("HTTP", ["http"]) == ", did you mean 'http'?"
    assert suggestion("operationid", ["operationId"]) == ", did you mean 'operationId'?"
