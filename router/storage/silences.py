"""The silences of flows that expect events: one row for each that is not over, or whose end was not published."""

from __future__ import annotations

from typing import Final, NamedTuple

import apsw

from router.storage.part import StoragePart, reading, writing

ROW_BYTES: Final = 256


class Silence(NamedTuple):
    """A time in which a flow got no event, although it expects them more often. Times are Unix times in ms."""

    flow_id: str
    since_ms: int  # when it got the last event, or else when it was applied
    begin_ms: int  # when that was longer ago than the flow expects
    serve_ms: int  # since when the router served that found it
    end_ms: int | None = None  # when it was over
    announced: int = 0  # 1: the lifecycle event of its beginning was published


_COLUMNS: Final = ", ".join(Silence._fields)


def _all(connection: apsw.Connection) -> list[Silence]:
    return [Silence(*row) for row in connection.execute(f"SELECT {_COLUMNS} FROM silence")]  # noqa: S608


def _save(connection: apsw.Connection, silence: Silence) -> None:
    """Add a silence, or replace that of its flow."""
    connection.execute(f"INSERT OR REPLACE INTO silence ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)", silence)  # noqa: S608


def _remove(connection: apsw.Connection, flow_id: str) -> None:
    connection.execute("DELETE FROM silence WHERE flow_id = ?", (flow_id,))


class SilenceLog(StoragePart):
    """Silences by flow; a flow has at most one."""

    all = reading(_all)
    save = writing(_save, size=lambda _silence: ROW_BYTES)
    remove = writing(_remove)
