"""Tries a test with many values as one case, since most values take less time than a case of their own.

Each value that fails is reported as a subtest. What needs a fixture of its own for each value, or takes long, is
better parametrized.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import reprlib

import pytest

OUTCOMES = (Exception, pytest.fail.Exception, pytest.skip.Exception)


class _Row:
    """Arguments of one call."""

    def __init__(self, names, value, name):
        if isinstance(value, type(pytest.param())):
            assert not value.marks, "values with marks are to be parametrized"
            name = value.id or name
            value = value.values if len(names) > 1 else value.values[0]
        self._name = name
        self.arguments = dict(zip(names, value if len(names) > 1 else [value], strict=True))

    @property
    def label(self):
        if callable(self._name):
            return "-".join(str(self._name(value)) for value in self.arguments.values())
        return self._name or "-".join(map(reprlib.repr, self.arguments.values()))


def cases(names, values, *, ids=None):
    """Try a test with each of `values`, like `pytest.mark.parametrize`; several of these multiply.

    The test is called again and again with the same fixtures. A value that fails, or skips, does not keep others out.
    """
    names = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    given = itertools.repeat(ids) if ids is None or callable(ids) else ids
    rows = [_Row(names, value, name) for value, name in zip(values, given, strict=False)]
    assert rows, "a test without values tests nothing"

    def decorate(test):
        inner = getattr(test, "inner", test)
        axes = [*getattr(test, "axes", ()), rows]

        if inspect.iscoroutinefunction(inner):

            @functools.wraps(inner)
            async def tried(*args, subtests, **fixtures):
                for chosen in itertools.product(*axes):
                    try:
                        await inner(*args, **fixtures, **_arguments(chosen))
                    except OUTCOMES:
                        _report(subtests, chosen)

        else:

            @functools.wraps(inner)
            def tried(*args, subtests, **fixtures):
                for chosen in itertools.product(*axes):
                    try:
                        inner(*args, **fixtures, **_arguments(chosen))
                    except OUTCOMES:
                        _report(subtests, chosen)

        taken = {name for axis in axes for name in axis[0].arguments}
        parameters = [each for name, each in inspect.signature(inner).parameters.items() if name not in taken]
        parameters.append(inspect.Parameter("subtests", inspect.Parameter.KEYWORD_ONLY))
        tried.__signature__ = inspect.Signature(parameters)
        tried.inner, tried.axes = inner, axes
        return tried

    return decorate


def _arguments(chosen):
    return {name: value for row in chosen for name, value in row.arguments.items()}


def _report(subtests, chosen):
    """Report the exception that is being handled."""
    with subtests.test(msg="-".join(row.label for row in chosen)):
        raise  # noqa: PLE0704 - called in an `except`
