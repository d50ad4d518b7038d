"""The entry that is prepared for the catalog of SchemaStore."""

from __future__ import annotations

import json
from pathlib import Path

from cli.flow_files import SUFFIXES

ENTRY = Path(__file__).parents[3] / "deploy" / "schemastore" / "catalog-entry.json"


def test_it_has_what_the_catalog_requires_and_names_files_that_apply_takes():
    entry = json.loads(ENTRY.read_bytes())
    assert entry.keys() == {"name", "description", "fileMatch", "url"}
    assert entry["url"].startswith("https://www.schemastore.org/")
    assert {Path(pattern).suffix for pattern in entry["fileMatch"]} == set(SUFFIXES)
