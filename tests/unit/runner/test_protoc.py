"""What a runner says that was installed without protoc."""

import sys

import pytest

from flowhook.errors import InvalidError
from runner.protoc import compile_source


def test_a_runner_without_protoc_names_the_extra_that_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc_tools", None)

    with pytest.raises(InvalidError, match=r"flowhook\[proto\]") as refused:
        list(compile_source(b'syntax = "proto3";'))

    assert refused.value.reason == "PROTOC_MISSING"
