"""`Client` and `AsyncClient` differ in nothing but `await`: not in names, nor in arguments, nor in what they say."""

from __future__ import annotations

import inspect

import pytest

from flowhook.client import aio, sync

PARTS = ["Client", "_Flows", "_Secrets", "_Executions", "_Rejections", "_Cluster"]


def methods(of):
    """The functions of a class, with all that is seen of them, by the names that they have without `async`."""
    return {
        name.replace("__a", "__"): (
            str(inspect.signature(method)).replace("Async", ""),
            inspect.getdoc(method),
        )
        for name, method in vars(of).items()
        if inspect.isfunction(method)
    }


@pytest.mark.parametrize("part", PARTS)
def test_they_have_the_same_methods_with_the_same_arguments_and_descriptions(part):
    blocking = methods(getattr(sync, part))
    assert methods(getattr(aio, "AsyncClient" if part == "Client" else part)) == blocking
    assert len(blocking) > 1


def test_all_that_a_client_has_is_compared():
    parts = {name for name, of in vars(sync).items() if inspect.isclass(of) and of.__module__ == sync.__name__}
    assert parts - {"_Transport"} == set(PARTS)


def test_their_own_descriptions_differ_in_the_first_paragraph_alone():
    descriptions = [inspect.getdoc(each).partition("\n\n") for each in (sync.Client, aio.AsyncClient)]
    assert descriptions[0][2] == descriptions[1][2] != ""
