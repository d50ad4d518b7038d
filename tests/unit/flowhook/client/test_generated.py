"""The blocking client is what the build generates from the asyncio client, and mentions no asyncio."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import shutil
from pathlib import Path

import pytest
from support.cases import cases

from flowhook.client import AsyncClient, Client

ROOT = Path(__file__).parents[4]
AIO, SYNC = (Path("flowhook", "client", name) for name in ("aio", "sync"))


@pytest.fixture(scope="module")
def hatch_build():
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def clone(tmp_path):
    """A folder with what the blocking client is generated from."""
    shutil.copytree(ROOT / AIO, tmp_path / AIO, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def sources(folder):
    return {path.name: path.read_text() for path in folder.glob("*.py")}


def test_the_blocking_client_is_up_to_date(hatch_build, clone):
    hatch_build.generate_blocking_client(clone)
    assert sources(ROOT / SYNC) == sources(clone / SYNC), "`make codegen` generates it"
    assert sources(ROOT / SYNC).keys() == sources(ROOT / AIO).keys()


def test_a_module_that_was_removed_is_removed_from_the_blocking_client(hatch_build, clone):
    (clone / AIO / "removed.py").write_text("async def removed(): ...\n")
    hatch_build.generate_blocking_client(clone)
    assert "def removed(): ..." in (clone / SYNC / "removed.py").read_text()
    (clone / AIO / "removed.py").unlink()
    hatch_build.generate_blocking_client(clone)
    assert not (clone / SYNC / "removed.py").exists()


def test_neither_code_nor_docs_of_the_blocking_client_mention_asyncio():
    for name, text in sources(ROOT / SYNC).items():
        code = re.sub(r"\A# Generated from .*\n|\"\"\"The blocking client, generated from .*\n|# noqa: .*", "", text)
        assert not re.search(r"async|await|aio|event loop", code, re.IGNORECASE), name


def test_every_name_and_phrase_that_is_replaced_occurs(hatch_build):
    text = "".join(sources(ROOT / AIO).values())
    for name in (*hatch_build.NAMES, *hatch_build.PHRASES):
        assert name in text


def methods(of):
    """Return signature and description of the methods of a class, by the names that they have without `async`."""
    return {
        name.replace("__a", "__"): (
            re.sub("Async|Blocking", "", str(inspect.signature(method))),
            inspect.getdoc(method),
        )
        for name, method in vars(of).items()
        if inspect.isfunction(method)
    }


@cases("name", sorted(path.stem for path in (ROOT / AIO).glob("[a-z]*.py")))
def test_both_clients_have_the_same_methods_with_the_same_arguments_and_descriptions(name):
    asyncio_one, blocking = (
        {
            re.sub("^(Async|Blocking)", "", each): methods(cls)
            for each, cls in inspect.getmembers(module, inspect.isclass)
            if cls.__module__ == module.__name__
        }
        for module in (importlib.import_module(f"flowhook.client.{kind}.{name}") for kind in ("aio", "sync"))
    )
    assert asyncio_one == blocking
    assert all(blocking.values())


def test_the_descriptions_of_the_clients_differ_in_the_first_paragraph_alone():
    asyncio_one, blocking = (inspect.getdoc(each).partition("\n\n") for each in (AsyncClient, Client))
    assert asyncio_one[2] == blocking[2] != ""
    assert "event loop" in asyncio_one[0]
    assert "among threads" in blocking[0]
