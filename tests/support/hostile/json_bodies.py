"""JSON that is deep, wide, or slow to read a number or a string of; the same as lines and within CloudEvents."""

from __future__ import annotations

from support.hostile.body import Body, filled, numbered

JSON = "application/json"
LINES = "application/x-ndjson"
EVENT = "application/cloudevents+json"
EVENTS = "application/cloudevents-batch+json"

MAX_VALUES = 1_000_000
"""As many values as are read."""

_EVENT = b'{"specversion":"1.0","id":"%x","source":"/s","type":"t"}'


def documents(max_bytes):
    """JSON documents, as (name, bytes)."""
    yield "deep arrays", b"[" * (max_bytes // 2) + b"]" * (max_bytes // 2)
    yield "deep arrays without end", b"[" * max_bytes
    yield "deep objects", b'{"a":' * (max_bytes // 6) + b"1" + b"}" * (max_bytes // 6 - 1)
    yield "as deep as is read", filled(b"[" * 1000 + b"]" * 1000 + b",", max_bytes, b"[", b"0]")
    yield "empty arrays", filled(b"[],", max_bytes, b"[", b"0]")
    yield "arrays of nothing but space", filled(b"[ ],", max_bytes, b"[", b"0]")
    yield "empty objects", filled(b"{},", max_bytes, b"[", b"0]")
    yield "objects of one member", filled(b'{"a":0},', max_bytes, b"[", b"0]")
    yield "objects of different members", numbered(b'{"%x":0}', max_bytes, b"[", b"]", b",")
    yield "arrays of one number", filled(b"[1.5],", max_bytes, b"[", b"0]")
    yield "digits between commas", filled(b"0,", max_bytes, b"[", b"0]")
    yield "different members", numbered(b'"%x":0', max_bytes, b"{", b"}", b",")
    yield "long different names", numbered(b'"' + b"n" * 70 + b'%x":0', max_bytes, b"{", b"}", b",")
    yield "one name again and again", filled(b'"a":0,', max_bytes, b"{", b'"a":0}')
    yield "one name for many objects", filled(b'"a":{},', max_bytes, b"{", b'"a":0}')
    yield "short strings", numbered(b'"%x"', max_bytes, b"[", b"]", b",")
    yield "one integer", b"1" * max_bytes
    yield "one fraction", b"0." + b"1" * (max_bytes - 2)
    yield "one fraction of zeros", b"0." + b"0" * (max_bytes - 3) + b"1"
    yield "one exponent", b"1e" + b"9" * (max_bytes - 2)
    yield "fractions that are hard to round", filled(b"9007199254740993.00000000000000000001,", max_bytes, b"[", b"0]")
    yield "denormal numbers", filled(b"2.2250738585072011e-308,", max_bytes, b"[", b"0]")
    yield "escaped quotes", filled(rb"\"", max_bytes, b'"', b'"')
    yield "escaped letters", filled(rb"\u0061", max_bytes, b'"', b'"')
    yield "escaped pairs of surrogates", filled(rb"\ud83d\ude00", max_bytes, b'"', b'"')
    yield "half pairs of surrogates", filled(rb"\ud83d", max_bytes, b'"', b'"')
    yield "backslashes", filled(rb"\\", max_bytes, b'"', b'"')
    yield "escapes in short strings", filled(rb'"\n",', max_bytes, b"[", b"0]")
    yield "commas in one string", filled(b",[{:", max_bytes, b'"', b'"')
    yield "brackets in short strings", filled(b'"[[",', max_bytes, b"[", b"0]")
    yield "escaped quotes around commas", filled(rb"\\\",", max_bytes, b'"', b'"')
    yield "a string without end", b'"' + b"," * (max_bytes - 1)
    yield "quotes", b'"' * max_bytes
    yield "space", filled(b" ", max_bytes, after=b"0")
    yield "as many empty arrays as are read", filled(b"[],", min(max_bytes, 3 * MAX_VALUES), b"[", b"0]")
    yield "as many numbers", filled(b"1.5,", min(max_bytes, 4 * MAX_VALUES - 10), b"[", b"0]")
    yield "as many objects", numbered(b'{"%x":0}', min(max_bytes, 5 * MAX_VALUES), b"[", b"]", b",")
    yield "as many members", numbered(b'"%x":0', min(max_bytes, 9 * MAX_VALUES), b"{", b"}", b",")
    yield "as many strings", numbered(b'"%x"', min(max_bytes, 7 * MAX_VALUES), b"[", b"]", b",")
    yield "no UTF-8", filled(b"\xed\xa0\x80", max_bytes, b'"', b'"')


def bodies(max_bytes):
    for name, content in documents(max_bytes):
        yield Body(f"json/{name}", JSON, content)


def lines(max_bytes):
    """NDJSON."""
    yield Body("lines/empty", LINES, b"\n" * max_bytes)
    yield Body("lines/space", LINES, filled(b" \n", max_bytes))
    yield Body("lines/digits", LINES, filled(b"0\n", max_bytes))
    yield Body("lines/arrays", LINES, filled(b"[[],[]]\n", max_bytes))
    yield Body("lines/one long", LINES, filled(b"[],", max_bytes, b"[", b"0]\n"))
    yield Body("lines/long ones", LINES, filled(filled(b'{"a":0},', 4096, b"[", b"0]") + b"\n", max_bytes))
    yield Body("lines/objects", LINES, numbered(b'{"%x":0}\n', max_bytes))
    yield Body("lines/spaces before values", LINES, filled(b" " * 1000 + b"0\n", max_bytes))
    yield Body("lines/deep", LINES, filled(b"[" * 1000 + b"]" * 1000 + b"\n", max_bytes))
    yield Body("lines/the last is wrong", LINES, filled(b"0\n", max_bytes, after=b"{"))


def cloud_events(max_bytes):
    """CloudEvents in each mode."""
    data = {"deep arrays", "empty arrays", "as many members", "one exponent", "escaped quotes around commas"}
    for name, content in documents(max_bytes - 100):
        if name not in data:
            continue
        yield Body(f"events/structured, {name}", EVENT, b'{"specversion":"1.0","id":"1","data":' + content + b"}")
    yield Body("events/a batch", EVENTS, numbered(_EVENT, max_bytes, b"[", b"]", b","))
    yield Body("events/a batch of nothing", EVENTS, filled(b"{},", max_bytes, b"[", b"{}]"))
    yield Body("events/attributes", EVENT, numbered(b'"a%x":""', max_bytes, b'{"specversion":"1.0",', b"}", b","))
    binary = (("ce-specversion", b"1.0"), ("ce-id", b"1"), ("ce-type", b"t"))
    data = filled(b"[],", max_bytes, b"[", b"0]")
    for name, piece in (("percent signs", b"%"), ("escapes", b"%C3%A9"), ("escapes between letters", b"\xc3\xa9%41")):
        headers = (*binary, ("ce-source", filled(piece, 60_000)))
        yield Body(f"events/binary, {name}", JSON, data[:1000].rpartition(b",")[0] + b"]", headers)
    headers = (*binary, *((f"ce-a{number}", b"%41") for number in range(2000)))
    yield Body("events/binary, many attributes", JSON, data, headers)
