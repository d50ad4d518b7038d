"""What commands print."""

from __future__ import annotations

import json

import orjson
from support.cases import cases

from cli import output


@cases("indent", [False, True])
@cases("depth", [1, 253, 254, 255, 1023])
def test_whatever_can_be_read_can_be_printed(depth, indent):
    text = b'{"a":' * depth + '"é"'.encode() + b"}" * depth
    printed = output.to_json(orjson.loads(text), indent=indent)
    assert b"".join(printed.split()) == text
    assert indent == (b"\n" in printed)


def test_json_is_one_object_a_line(capfdbinary):
    output.print_json({"text": "a\nb"})
    output.print_json({})
    lines = capfdbinary.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [{"text": "a\nb"}, {}]


def test_a_result_with_json_of_many_lines_is_one_line(capfdbinary):
    output.print_json((orjson.Fragment(b'{\r\n  "text": "a\\nb"\n}'),))
    (line,) = capfdbinary.readouterr().out.splitlines()
    assert json.loads(line) == [{"text": "a\nb"}]


def test_a_table_without_rows_says_so(capsys):
    output.print_table(("A",), [], empty="nothing")
    assert capsys.readouterr().out == "nothing\n"


def test_a_row_stays_one_line_where_there_is_no_terminal(capsys):
    output.print_table(("A", "B"), [("x" * 150, "y" * 150)], empty="")
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_no_line_ends_in_blanks_where_there_is_no_terminal(capsys):
    output.print_table(("A", "B"), [("x", "long"), ("y", "s"), ("z", None)], empty="")
    output.print_fields([("name", {"a": [1]}), ("long name", "x")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == ["A  B", "x  long", "y  s", "z  -"]
    assert len(lines) > 5
    assert [line for line in lines if line != line.rstrip()] == []


def test_what_senders_wrote_is_neither_markup_nor_escape_sequences(capsys):
    output.print_table(("A",), [("[red]x[/red] \x1b[2J",)], empty="")
    output.print_fields([("name", {"a": "\x9b2J"}), ("text", "[/]")])
    shown = capsys.readouterr().out
    assert "[red]x[/red]" in shown
    assert "[/]" in shown
    assert "\x1b" not in shown
    assert "\x9b" not in shown
