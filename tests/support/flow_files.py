"""What is said of flow files that are refused."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from flowhook.document.loader import parse
from flowhook.errors import Fault, InvalidFlowError

HEAD = "document: {dsl: 1.0.3, namespace: default, name: orders, version: 1.0.0}\n"
"""The first line of a flow file."""


def faults_of(text: str, functions: Collection[str] = ("twitter.post",)) -> list[tuple[int, str, str]]:
    """Return line, key and code of each fault of a file that is refused."""
    return [(fault.line, fault.key, fault.code) for fault in _faults(text, functions)]


def causes_of(text: str, functions: Collection[str] = ("twitter.post",)) -> list[tuple[int, str, str]]:
    """Return line, key and text of each fault of a file that is refused."""
    return [(fault.line, fault.key, fault.cause) for fault in _faults(text, functions)]


def _faults(text: str, functions: Collection[str]) -> list[Fault]:
    with pytest.raises(InvalidFlowError) as caught:
        parse(text.encode(), file="f.yaml", functions=functions)
    assert {fault.file for fault in caught.value.faults} == {"f.yaml"}
    return caught.value.faults
