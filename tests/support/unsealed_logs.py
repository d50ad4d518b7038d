"""Stores a log as early versions did, in clear: the same records, objects and facts, without a seal."""

from __future__ import annotations

from contextlib import contextmanager
from unittest.mock import patch

from router.storage.commit_log.jetstream import opening
from router.storage.commit_log.seals import PlainFacts, PlainObjects, PlainRecords


class _Records(PlainRecords):
    def __init__(self, _keys, _log):
        pass

    def seal(self, _position, batch_id, data):
        return batch_id, data


class _Objects(PlainObjects):
    def __init__(self, _keys):
        pass

    def seal(self, _place, chunk):
        return chunk


class _Facts(PlainFacts):
    def __init__(self, _keys):
        pass

    def seal(self, _name, value):
        return value


@contextmanager
def storing_in_clear():
    """Let routers of this process store what they store meanwhile in clear."""
    with patch.multiple(opening, RecordSeals=_Records, ObjectSeals=_Objects, FactSeals=_Facts):
        yield
