"""What components keep from call to call: connections, tokens, documents."""

from __future__ import annotations

from typing import Any, Protocol, Self, TypeVar

from flowhook.config import RunnerSettings


class Kept(Protocol):
    """Something that all calls of a process share. It bounds itself."""

    def __init__(self, settings: RunnerSettings, /) -> None: ...

    async def close(self) -> None:
        """Give back what it holds; no call is under way any more."""
        ...


Thing = TypeVar("Thing", bound=Kept)


class Shared:
    """The things of a process, one of a kind. Use it as an async context manager, which closes them."""

    def __init__(self, settings: RunnerSettings) -> None:
        self._settings = settings
        self._things: dict[type[Any], Any] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        while self._things:
            _, thing = self._things.popitem()
            await thing.close()

    def get(self, kind: type[Thing]) -> Thing:
        """Return the one `kind(settings)` there is, made when it is first asked for."""
        if kind not in self._things:
            self._things[kind] = kind(self._settings)
        thing: Thing = self._things[kind]
        return thing
