"""Objects that components share between calls: connections, tokens, documents."""

from __future__ import annotations

from typing import Any, Protocol, Self, TypeVar

from flowhook.config import RunnerSettings


class Kept(Protocol):
    """An object that all calls of a process share. It must limit its own size."""

    def __init__(self, settings: RunnerSettings, /) -> None: ...

    async def close(self) -> None:
        """Release its resources; no call is running any more."""
        ...


Thing = TypeVar("Thing", bound=Kept)


class SharedResources:
    """The shared objects of a process, one of each class. Use it as an async context manager, which closes them."""

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
        """Return the only instance of `kind`, created as `kind(settings)` on first use."""
        if kind not in self._things:
            self._things[kind] = kind(self._settings)
        thing: Thing = self._things[kind]
        return thing
