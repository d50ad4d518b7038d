"""Modules that libraries are not to find."""

import importlib
import sys

import pytest

from flowhook.process import import_blocking

NAME = "this"  # of the standard library, and nobody's dependency


def test_a_module_is_absent_within_the_block_alone(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    with import_blocking.block_import(NAME), pytest.raises(ImportError):
        importlib.import_module(NAME)
    assert NAME not in sys.modules
    assert importlib.import_module(NAME).__name__ == NAME


def test_a_module_that_is_there_already_stays():
    with import_blocking.block_import("json"):
        assert importlib.import_module("json") is sys.modules["json"]
    assert sys.modules["json"] is not None


def test_a_module_is_back_after_an_error(monkeypatch):
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    with pytest.raises(RuntimeError), import_blocking.block_import(NAME):
        raise RuntimeError
    assert NAME not in sys.modules
