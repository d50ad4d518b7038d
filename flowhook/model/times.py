"""Times: Unix milliseconds (UTC) in `int`s, which properties of types return as datetimes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

T_co = TypeVar("T_co", bound=datetime | None, covariant=True)


def to_datetime(milliseconds: int) -> datetime:
    """Convert Unix milliseconds to a datetime in UTC."""
    return datetime.fromtimestamp(milliseconds // 1000, UTC).replace(microsecond=milliseconds % 1000 * 1000)


class TimeProperty(property, Generic[T_co]):
    """A property that returns a field in Unix milliseconds as a datetime; the type is for type checkers."""

    if TYPE_CHECKING:

        def __get__(self, instance: Any, owner: type | None = None, /) -> T_co: ...  # type: ignore[override] # narrower


def time_of(field: str) -> TimeProperty[datetime]:
    def read(self: Any) -> datetime:
        return to_datetime(getattr(self, field))

    return TimeProperty(read)


def time_if_any(field: str) -> TimeProperty[datetime | None]:
    def read(self: Any) -> datetime | None:
        milliseconds = getattr(self, field)
        return None if milliseconds is None else to_datetime(milliseconds)

    return TimeProperty(read)
