"""Patches the product in the processes of a mutated cluster; Python imports this module when they start.

Only directories on `PYTHONPATH` are searched for it, and only `chaos.mutations` puts this one there.

Source: Python, Library Reference, `site`.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, Final

COMMIT_DELAY: Final = 0.3
SKIPPED_INDEX: Final = 1
SKIPPED_OUTPUT: Final = b'"token"'
"""What the service of the campaign answers."""


def answer_before_commit(writer: ModuleType) -> None:
    """Have the storage's writer answer those who append events while the transaction is still to be committed."""
    transact, deliver = writer.Writer._transact, writer.Writer._deliver

    class AnsweringConnection:
        def __init__(self, connection: Any, answer: Callable[[], None]) -> None:
            self._connection = connection
            self._answer = answer

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

        def execute(self, statement: str, *arguments: Any) -> Any:
            if statement == "COMMIT":
                self._answer()  # runs on the loop before what is delivered after the commit
                time.sleep(COMMIT_DELAY)
            return self._connection.execute(statement, *arguments)

    def transact_late(self: Any, batch: Sequence[Any]) -> None:
        connection = self._connection
        appends = [call for call in batch if type(call.operation).__name__ == "AppendOperation"]
        self._connection = AnsweringConnection(connection, lambda: self._on_loop(deliver, self, appends))
        try:
            transact(self, batch)
        finally:
            self._connection = connection

    def deliver_once(self: Any, batch: Sequence[Any]) -> None:
        deliver(self, [call for call in batch if not call.future.done()])

    writer.Writer._transact, writer.Writer._deliver = transact_late, deliver_once


def skip_journal_entries(journal_writer: ModuleType) -> None:
    """Have the router acknowledge the result of the second call of an execution without storing it."""
    journaled, stored = journal_writer._journaled, journal_writer.stored.Journaled

    def forgetful(seq: int, checkpoint: Any) -> Iterator[Any]:
        entry = checkpoint.entry
        skipped = checkpoint.index == SKIPPED_INDEX and entry is not None and SKIPPED_OUTPUT in (entry.output or b"")
        return (each for each in journaled(seq, checkpoint) if not (skipped and isinstance(each, stored)))

    journal_writer._journaled = forgetful  # type: ignore[attr-defined]


def accept_any_lease(leases: ModuleType) -> None:
    """Have the router look only whether an execution that a lease names is leased now, to whomever."""
    release = leases.LeaseTable.release

    def get(self: Any, token: bytes) -> Any:
        found = self._by_token.get(token)
        if found is None and len(token) == leases._TOKEN.size:
            return self._by_seq.get(leases._TOKEN.unpack(token)[3])
        return found

    def seq_of(self: Any, token: bytes) -> int | None:
        found = get(self, token)
        return None if found is None else found.seq

    def release_any(self: Any, token: bytes) -> Any:
        found = get(self, token)
        return None if found is None else release(self, found.token)

    leases.LeaseTable.get, leases.LeaseTable.seq_of, leases.LeaseTable.release = get, seq_of, release_any


def retain_any_lease(shard: ModuleType) -> None:
    """Have the router let a runner that comes back go on with all that it worked on."""
    attach = shard.Shard.attach

    def retain(self: Any, runner_id: str, held: Any, **others: Any) -> Any:
        held = list(held)
        result = attach(self, runner_id, held, **others)
        result.kept.extend(token for token in held if token not in result.kept and self.leases.get(token) is not None)
        return result

    shard.Shard.attach = retain


PATCHES: Final[Mapping[str, Mapping[str, Callable[[ModuleType], None]]]] = {
    "early-acknowledgement": {"router.storage.writer": answer_before_commit},
    "skipped-journal-entry": {"router.dispatch.journal_writer": skip_journal_entries},
    "unchecked-lease": {"router.scheduling.leases": accept_any_lease, "router.scheduling.shard": retain_any_lease},
}


class _PatchingLoader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader, patch: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._patch = patch

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._patch(module)


class _PatchingFinder(importlib.abc.MetaPathFinder):
    def __init__(self, patches: Mapping[str, Callable[[ModuleType], None]]) -> None:
        self._patches = patches

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._patches:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _PatchingLoader(spec.loader, self._patches[fullname])
        return spec


if "CHAOS_MUTATION" in os.environ:
    sys.meta_path.insert(0, _PatchingFinder(PATCHES[os.environ["CHAOS_MUTATION"]]))
