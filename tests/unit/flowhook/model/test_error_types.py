"""The names of the standard's error types mean the same; others are left alone."""

from __future__ import annotations

import pytest

from flowhook.model import ERROR_TYPE_BASE, WorkflowError
from flowhook.model.error_types import Kind, is_standard, respelled, spelled, spellings

EARLIER = "https://serverlessworkflow.io/spec/1.0.0/errors/"
OWN = ("https://example.com/errors/timeout", "https://open-workflow-specification.org/errors/types/compliance", "a:b")


@pytest.mark.parametrize("kind", Kind)
def test_an_error_has_the_present_name_of_its_type_whichever_is_given(kind):
    names = spellings(ERROR_TYPE_BASE + kind)
    assert len(set(names)) == 4
    assert {WorkflowError(name, 500, "T").type for name in names} == {ERROR_TYPE_BASE + kind}
    assert {spellings(name) for name in names} == {names}
    assert {spelled(name, "serverless-workflow") for name in names} == {EARLIER + kind}
    assert {spelled(name, "open-workflow") for name in names} == {ERROR_TYPE_BASE + kind}


@pytest.mark.parametrize("type_", [*OWN, ERROR_TYPE_BASE + "unknown", EARLIER, ERROR_TYPE_BASE])
def test_other_types_stay_as_they_are(type_):
    error = WorkflowError(type_, 500, "T")
    assert not is_standard(type_)
    assert {error.type, error.as_dict("serverless-workflow")["type"], *spellings(type_)} == {type_}


def test_a_program_compares_with_the_types_that_it_sees():
    program = f'.a == "{EARLIER}timeout" or (.a | startswith("{ERROR_TYPE_BASE}"))'
    assert respelled(program, "open-workflow").count(ERROR_TYPE_BASE) == 2
    assert respelled(program, "serverless-workflow").count(EARLIER) == 2
    assert respelled(OWN[0], "serverless-workflow") == OWN[0]
