"""`flowhook check`: what `apply` would say, without a router."""

from __future__ import annotations

import pytest
from support.commands import flowhook

HEAD = "document: {dsl: 1.0.3, namespace: default, name: NAME, version: 1.0.0}\n"
FINE = HEAD.replace("NAME", "fine") + "do: [{a: {set: {b: 1}}}]\n"
WARNED = HEAD.replace("NAME", "warned") + "do:\n  - a: {set: {b: 'x ${ .c }'}}\n"
BAD = HEAD.replace("NAME", "bad") + "do:\n  - a: {wait: soon}\n"


@pytest.fixture
def files(tmp_path):
    for name, text in (("fine", FINE), ("warned", WARNED), ("bad", BAD)):
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def test_files_in_which_nothing_is_wrong_are_fine(files):
    result = flowhook("check", files / "fine.yaml")
    assert (result.code, result.out, result.err) == (0, f"{files}/fine.yaml: fine is fine\n", "")


def test_a_problem_is_named_with_file_line_key_and_cause(files):
    result = flowhook("check", files)
    assert result.code == 1
    assert result.err.startswith(f"{files}/bad.yaml:3: do[0].a.wait: 'soon' is not a duration")


def test_a_file_that_is_too_large_is_refused_without_being_read_whole(files):
    with (files / "large.json").open("wb") as file:
        file.truncate(1 << 40)  # of which the disk has nothing
    result = flowhook("check", files / "large.json")
    assert (result.code, result.err) == (1, f"{files}/large.json: a flow file has at most 256 KiB\n")


def test_what_is_said_of_a_file_does_not_depend_on_the_others(files):
    (files / "other.yaml").write_text(FINE.replace("1.0.0", "1.0.1"))
    result = flowhook("check", files)
    assert result.code == 1
    assert result.out == f"{files}/fine.yaml: fine is fine\n{files}/warned.yaml: warned is fine\n"
    assert f"{files}/warned.yaml:3: warning: " in result.err
    assert f"{files}/other.yaml: document: flow fine is in {files}/fine.yaml too" in result.err


def test_a_warning_is_no_problem_unless_that_is_requested(files):
    warned = flowhook("check", files / "warned.yaml")
    assert (warned.code, warned.out) == (0, f"{files}/warned.yaml: warned is fine\n")
    assert warned.err.startswith(f"{files}/warned.yaml:3: warning: do[0].a.set.b: '${{ .c }}' is not evaluated")
    strict = flowhook("check", "--strict", files / "fine.yaml", files / "warned.yaml")
    assert (strict.code, strict.out) == (1, f"{files}/fine.yaml: fine is fine\n")
    assert strict.err.startswith(f"{files}/warned.yaml:3: do[0].a.set.b: '${{ .c }}' is not evaluated")


@pytest.mark.parametrize(
    ("options", "name", "severity"),
    [((), "bad", "error"), ((), "warned", "warning"), (("--strict",), "warned", "error")],
)
def test_programs_get_an_object_for_each(files, options, name, severity):
    result = flowhook("check", "--json", *options, files / f"{name}.yaml")
    assert (result.code, result.err) == (int(severity == "error"), "")
    (found,) = result.rows
    assert list(found) == ["file", "line", "key", "cause", "code", "severity"]
    assert (found["file"], found["line"], found["severity"]) == (f"{files}/{name}.yaml", 3, severity)


def test_a_file_that_is_not_there_is_no_flow(tmp_path):
    result = flowhook("check", tmp_path / "no.yaml")
    assert (result.code, result.out) == (1, "")
    assert "no.yaml: No such file" in result.err
