"""Objects that components share between calls: connections, tokens, documents."""

from __future__ import annotations

from typing import Any, Protocol, Self, TypeVar

from flowhook.process.settings import RunnerSettings


class ClosableResource(Protocol):
    """An object that all calls of a process share. It must limit its own size."""

    def __init__(self, settings: RunnerSettings, /) -> None: ...

    async def close(self) -> None:
        """Release its resources; no call is running any more."""
        ...


Resource = TypeVar("Resource", bound=ClosableResource)


class SharedResources:
    """The shared objects of a process, one of each class. Use it as an async context manager, which closes them."""

    def __init__(self, settings: RunnerSettings) -> None:
        self._settings = settings
        self._resources: dict[type[Any], Any] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        while self._resources:
            _, resource = self._resources.popitem()
            await resource.close()

    def get(self, kind: type[Resource]) -> Resource:
        """Return the only instance of `kind`, created as `kind(settings)` on first use."""
        if kind not in self._resources:
            self._resources[kind] = kind(self._settings)
        resource: Resource = self._resources[kind]
        return resource
