"""The vendored files are those that npm packed; `make vendor` renews them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json

from admin.console.static_files import FOLDER

VENDOR = FOLDER / "vendor"
MAX_SCRIPT = 40_000
"""Bytes of all scripts that a page loads, compressed, but for the editor, which only one page loads."""
EDITOR = "codemirror.min.js"
OWN_LINES = 300
"""Lines of scripts of our own."""


def manifest():
    return [file for package in json.loads((VENDOR / "manifest.json").read_text()) for file in package["files"]]


def test_each_file_has_the_hash_of_the_manifest():
    for file in manifest():
        digest = base64.b64encode(hashlib.sha512((VENDOR / file["name"]).read_bytes()).digest()).decode()
        assert file["sha512"] == f"sha512-{digest}", file["name"]


def test_there_are_no_others():
    assert {path.name for path in VENDOR.iterdir()} == {file["name"] for file in manifest()} | {"manifest.json"}


def test_scripts_are_small():
    scripts = [path.read_bytes() for path in FOLDER.rglob("*.js") if path.name != EDITOR]
    own = [path.read_text() for path in (FOLDER / "js").glob("*.js")]
    assert 0 < sum(text.count("\n") for text in own) <= OWN_LINES
    assert sum(len(gzip.compress(script)) for script in scripts) < MAX_SCRIPT
