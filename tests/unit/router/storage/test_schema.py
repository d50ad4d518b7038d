"""The tables of the database and the number of its format change together."""

from __future__ import annotations

import hashlib

from router.storage.schema import FORMAT_VERSION, TABLES


def test_other_tables_have_another_number():
    """A file with other tables and the same number would be opened, and fail at the first write."""
    digest = hashlib.sha256(" ".join(TABLES.split()).encode()).hexdigest()[:16]
    assert (FORMAT_VERSION, digest) == (8, "a55142174fe79a2e")
