"""`flowhook verify` says of a request in a file whether it is signed, and if not, what went wrong on its way."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest
from support.commands import flowhook


@pytest.fixture
def verify(tmp_path):
    """Write a request and its secret into files and have them checked."""
    (tmp_path / "secret").write_bytes(b"sesame\n")

    def check(body, *, signed=None, headers=(), end=b"\r\n", options=("--provider", "github")):
        digest = hmac.new(b"sesame", body if signed is None else signed, hashlib.sha256).hexdigest()
        lines = [b"POST /hook/blog HTTP/1.1", b"Host: h.example", f"X-Hub-Signature-256: sha256={digest}".encode()]
        lines += [f"{name}: {value}".encode() for name, value in headers]
        path = tmp_path / "request.http"
        path.write_bytes(end.join(lines) + end + end + body)
        return flowhook("verify", *options, "--secret-file", str(tmp_path / "secret"), str(path))

    return check


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_a_request_that_is_signed_is_valid(verify, end):
    found = verify(b'{"a": 1}', headers=[("X-GitHub-Delivery", "d1")], end=end)
    assert (found.code, found.out) == (0, "valid: github, delivery d1\n")


def test_one_that_was_altered_is_not_and_why_is_reported(verify):
    found = verify(b'{"a":1}', signed=b'{"a": 1}')
    assert found.code == 1
    assert "not valid: SIGNATURE_MISMATCH" in found.out
    assert "wrote it again" in found.out
    assert "sesame" not in found.out + found.err


def test_a_scheme_may_be_spelled_out(verify):
    auth = "{hmac: {secret: x, header: X-Hub-Signature-256, prefix: 'sha256='}}"
    found = verify(b"a", options=("--auth", auth, "--json"))
    assert json.loads(found.out) == {"valid": True, "scheme": "hmac", "delivery_id": None}


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ((), "give --provider, or --auth"),
        (("--provider", "githup"), "did you mean github"),
        (("--auth", "{hmac: {secret: x}}"), "the location of the signature"),
        (("--auth", "{"), "expected"),
    ],
)
def test_wrong_usage_is_reported(verify, options, cause):
    found = verify(b"a", options=options)
    assert (found.code, cause in found.err.replace("\n", " ")) == (2, True)


def test_a_file_that_is_no_request_is_reported(tmp_path):
    (tmp_path / "r").write_bytes(b"nothing")
    found = flowhook("verify", "--provider", "github", str(tmp_path / "r"))
    assert (found.code, "POST /hook/x" in found.err) == (2, True)
