"""Every format says what it says, and whatever is sent gives data, an attachment or a refusal."""

from __future__ import annotations

import gzip
import zlib
from contextlib import suppress

import brotli
import javaproperties
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.cases import cases

from flowhook.errors import InvalidError
from flowhook.payloads.content_encoding import decompress
from flowhook.payloads.parsing import ParsedBody, is_parsed_whole, parse

LIMIT = 100_000

KINDS = (
    "application/json",
    "application/xml; charset=utf-16",
    "application/x-www-form-urlencoded",
    "application/x-ndjson",
    "multipart/form-data; boundary=b",
    "multipart/mixed; boundary=b",
    "text/plain; charset=shift_jis",
    "text/plain; charset=idna",
    "text/plain; charset=utf-7",
    "text/x-java-properties",
    "image/png",
    "",
)


TEXT = st.characters(exclude_categories=["Cs"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(TEXT, max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="[]"), min_size=1, max_size=5)


def leaves(value):
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item)]
    return [value]


def read(kind, body, *headers, limit=LIMIT):
    return parse(kind, body, headers, limit=limit)


def refusal(kind, body, *headers, limit=LIMIT):
    with pytest.raises(InvalidError) as caught:
        read(kind, body, *headers, limit=limit)
    return caught.value.reason


def outcome(kind, body, headers):
    """Return what a body says; None when it is refused."""
    with suppress(InvalidError):
        return parse(kind, body, headers, limit=1000)
    return None


@cases(
    ("kind", "body", "expected"),
    [
        ("application/json", b'{"a": [1, null]}', {"a": [1, None]}),
        ("application/vnd.acme+json; v=1", b"1", 1),
        ("application/json", b'{"a": 1, "a": 2}', {"a": 2}),
        ("text/plain", "grüß".encode(), "grüß"),
        ("text/plain", b"\xef\xbb\xbfhi", "hi"),
        ("text/plain; charset=ISO-8859-1", b"\xe9", "é"),
        ('text/html; charset="utf-8"', b"<p>", "<p>"),
        ("application/x-ndjson", b'{"a":1}\n\n[2]\r\n', [{"a": 1}, [2]]),
        ("text/x-java-properties", b"a=1\n# no\nb : two\\\n words\na=3", {"a": ["1", "3"], "b": "twowords"}),
        ("text/x-java-properties", b"a\\u00e9[x]=1", {"aé": {"x": "1"}}),
        ("application/x-www-form-urlencoded", b"a=1&b=%C3%A9+x&c", {"a": "1", "b": "é x", "c": ""}),
        ("application/x-www-form-urlencoded; charset=iso-8859-1", b"b=%E9", {"b": "é"}),
        ("application/x-www-form-urlencoded", "b=é".encode(), {"b": "é"}),
    ],
)
def test_a_body_is_what_its_media_type_says(kind, body, expected):
    content = read(kind, body)
    assert (content.body, content.attachments) == (expected, ())


@cases(
    ("kind", "body"),
    [
        ("application/json", b""),
        ("application/json", b"{"),
        ("application/json", b'{"a": NaN}'),
        ("application/json", b'"\xff"'),
        ("application/json", b"[" * 10_000 + b"]" * 10_000),
        ("text/plain; charset=utf-8", b"\xff"),
        ("application/x-ndjson", b"1\n{"),
        ("application/x-ndjson", b"1\n" * 100_001),
        ("text/x-java-properties", b"a=\\uXYZW"),
        ("text/x-java-properties", b"a=\\ud800"),
        ("text/x-java-properties", b"a=1\n" * 10_001),
        ("application/x-www-form-urlencoded", b"a=%FF"),
        ("application/x-www-form-urlencoded; charset=utf-8", b"a=\xff"),
        ("application/x-www-form-urlencoded", b"a=1&" * 100_000),
        ("application/x-www-form-urlencoded", b"a" + b"[b]" * 33 + b"=1"),
    ],
)
def test_what_is_not_what_it_says_is_refused(kind, body):
    assert refusal(kind, body, limit=1 << 20) == "BODY_INVALID"


@cases("kind", ["image/png", "", "nonsense", "a/b; charset", "x" * 5000, "text/plain; charset=klingon"])
def test_what_can_not_be_parsed_is_an_attachment(kind):
    content = read(kind, b"\x00\x01")
    (attachment,) = content.attachments
    assert (content.body, attachment.name, attachment.type, attachment.content) == (None, "body", kind, b"\x00\x01")


@cases("charset", ["utf-7", "unicode_escape", "raw_unicode_escape", "punycode", "idna", "hex", "mbcs"])
@cases("kind", ["text/plain", "application/xml", "application/x-www-form-urlencoded"])
def test_a_codec_that_is_no_charset_is_not_known(kind, charset):
    content = read(f"{kind}; charset={charset}", b"a=+2AA-\\ud800")
    assert (content.body, len(content.attachments)) == (None, 1)


def test_a_flow_may_turn_parsing_off():
    content = parse("application/json", b"{", (), raw=True, limit=10)
    assert (content.body, content.attachments[0].content) == (None, b"{")


@cases(
    ("coding", "compress"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", lambda body: gzip.compress(body[:3]) + gzip.compress(body[3:]) + b"\0\0"),
        ("deflate", zlib.compress),
        ("Deflate", lambda body: zlib.compress(body, wbits=-15)),
        ("br", brotli.compress),
        ("identity, gzip", gzip.compress),
        ("gzip, br", lambda body: brotli.compress(gzip.compress(body))),
    ],
)
def test_a_compressed_body_is_decompressed(coding, compress):
    body = b'{"a": "' + b"x" * 5000 + b'"}'
    assert read("application/json", compress(body), ("content-encoding", coding.encode())).body == {"a": "x" * 5000}


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
def test_a_bomb_ends_at_the_limit(coding):
    compress = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress}[coding]
    bomb = compress(b" " * 10_000_000)
    field = ("content-encoding", coding.encode())
    assert refusal("application/json", bomb, field) == "BODY_TOO_LARGE"
    assert refusal("image/png", bomb, field) == "BODY_TOO_LARGE"


def test_a_bomb_within_another_ends_at_the_limit_too():
    bomb = gzip.compress(gzip.compress(b" " * 10_000_000))
    assert refusal("text/plain", bomb, ("content-encoding", b"gzip, gzip")) == "BODY_TOO_LARGE"


@cases("coding", ["gzip", "deflate", "br"])
@cases("damage", [lambda body: body[:-3], lambda _: b"nonsense", lambda body: body[: len(body) // 2]])
def test_a_damaged_compressed_body_is_refused(coding, damage):
    compress = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress}[coding]
    body = damage(compress(bytes(range(256)) * 20))
    assert refusal("text/plain; charset=latin-1", body, ("content-encoding", coding.encode())) == "BODY_INVALID"


def test_a_coding_that_nobody_knows_leaves_an_attachment():
    (attachment,) = read("application/json", b"\x28\xb5", ("content-encoding", b"zstd")).attachments
    assert attachment.content == b"\x28\xb5"


def test_a_cloud_event_is_the_same_in_both_modes():
    attributes = (
        ("ce-specversion", b"1.0"),
        ("ce-id", b"1"),
        ("ce-source", b"/a%20b"),
        ("ce-type", b"t"),
        ("content-type", b"application/json"),
    )
    event = read("application/json", b'{"x": 1}', *attributes).body
    assert event == {
        "specversion": "1.0",
        "id": "1",
        "source": "/a b",
        "type": "t",
        "datacontenttype": "application/json",
        "data": {"x": 1},
    }
    structured = read("application/cloudevents+json; charset=utf-8", b'{"specversion":"1.0","id":"1"}').body
    assert structured == {"specversion": "1.0", "id": "1"}
    assert read("application/cloudevents-batch+json", b'[{"id":"1"}]').body == [{"id": "1"}]


def test_the_data_of_a_cloud_event_may_be_a_file():
    content = read("image/png", b"\x89", ("ce-specversion", b"1.0"), ("ce-type", b"t"))
    assert content.body == {"specversion": "1.0", "type": "t", "datacontenttype": "image/png"}
    assert content.attachments[0].content == b"\x89"


def test_bodies_that_have_to_be_whole_are_distinguished_from_those_that_may_be_streamed():
    whole = [kind for kind in KINDS if is_parsed_whole(kind)]
    assert [kind for kind in KINDS if kind not in whole] == [
        "multipart/form-data; boundary=b",
        "multipart/mixed; boundary=b",
        "image/png",
        "",
    ]


@given(
    kind=st.sampled_from(KINDS) | st.text(max_size=40),
    body=st.binary(max_size=300),
    codings=st.sampled_from([b"", b"gzip", b"br", b"deflate", b"gzip,br", b"\xff"]),
    is_event=st.booleans(),
)
@example(kind="multipart/form-data; boundary=b", body=b"--b--", codings=b"", is_event=False)
@example(kind="text/plain", body=b"3", codings=b"br", is_event=False)
@example(kind="application/xml", body=b"<!DOCTYPE a><a/>", codings=b"", is_event=True)
def test_whatever_is_sent_nothing_is_lost_and_nothing_breaks(kind, body, codings, is_event):
    headers = [("content-encoding", codings)] if codings else []
    headers += [("ce-specversion", b"1.0")] if is_event else []
    content = outcome(kind, body, tuple(headers))
    if content is not None:
        assert orjson.loads(orjson.dumps(content.body)) == content.body
    nothing = not body
    if content == ParsedBody(None) and codings and body:
        nothing = not decompress(body, codings.decode("latin-1"), 1000)
    empty_form = kind.startswith("multipart/") or not body.strip()
    is_null = content is None or (content.body is None and body.strip() == b"null")
    assert nothing or is_null or content.body is not None or content.attachments or empty_form


def pieces(*texts):
    """Bodies of what means something to a format, and of any bytes in between."""
    return st.lists(st.sampled_from(texts) | st.binary(max_size=4), max_size=20).map(b"".join)


@given(pieces(b"\n", b"\r\n", b" ", b"{}", b'{"a":', b"}", b"[", b"]", b'"', b"1", b"null", b"NaN", b"\\ud800"))
@example(b"\n \n")
@example(b'"\xff"\n1')
def test_any_bytes_are_ndjson_of_one_value_a_line_or_refused(body):
    lines = [line for line in body.split(b"\n") if line.strip()]
    try:
        expected = [orjson.loads(line) for line in lines]
    except orjson.JSONDecodeError:
        assert refusal("application/x-ndjson", body) == "BODY_INVALID"
    else:
        assert read("application/x-ndjson", body).body == (expected if body else None)


@given(st.lists(JSON, min_size=1, max_size=5), st.sampled_from([b"\n", b"\r\n", b"\n\n"]))
def test_values_that_are_written_one_a_line_come_back(values, end):
    assert read("application/x-ndjson", end.join(map(orjson.dumps, values))).body == values


@given(
    pieces(
        b"=", b":", b"\\", b"\\u", b"\\u00e9", b"\\ud83d", b"\\ude00", b"#", b"!", b"\n", b"\r", b"\f", b"a", b"[", b"]"
    ),
    st.sampled_from(["", "; charset=utf-8", "; charset=iso-8859-1", "; charset=utf-16", "; charset=klingon"]),
)
@example(b"a=\\ud83d\nb=\\ude00", "")
def test_any_bytes_are_properties_or_refused(body, charset):
    content = outcome("text/x-java-properties" + charset, body, ())
    if content is None:
        return
    if content.attachments:
        # whose charset nobody knows: a wrong one that was named is an error
        assert charset in ("", "; charset=klingon")
        assert content.attachments[0].content == body
    elif body:
        assert all(isinstance(leaf, str) for leaf in leaves(content.body))
        assert orjson.loads(orjson.dumps(content.body)) == content.body


@given(st.lists(st.tuples(NAMES, st.text(TEXT, max_size=8)), max_size=8, unique_by=lambda pair: pair[0]), st.booleans())
def test_properties_that_are_written_come_back(pairs, ascii_only):
    text = "".join(f"{javaproperties.join_key_value(*pair, ensure_ascii=ascii_only)}\n" for pair in pairs)
    content = read("text/x-java-properties; charset=utf-8", text.encode())
    assert (content.body or {}) == dict(pairs)
