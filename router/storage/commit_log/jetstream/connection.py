"""A connection to NATS that blocking callers share: the client on a thread with an event loop of its own.

nats-py reconnects by itself, but closes for good after some errors that a server reports; then a new client takes over,
with the same subscriptions.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import nats.errors
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.errors import APIError, ServerError, ServiceUnavailableError

from flowhook.asyncio_tasks import wait_at_most
from flowhook.errors import InvalidError, UnavailableError
from flowhook.process import logs
from router.storage.commit_log.jetstream.url import LogUrl

CONNECT_SECONDS: Final = 2
RECONNECT_SECONDS: Final = 0.1
PING_SECONDS: Final = 1
PINGS_MISSED: Final = 2
REQUEST_SECONDS: Final = 2.0
OPERATION_SECONDS: Final = 10.0  # how long a request is repeated: about as long as the election of a leader takes
PAUSE_SECONDS: Final = 0.05
T = TypeVar("T")
Callback = Callable[[Msg], Awaitable[None]]

log = logs.get_logger(__name__)


class LogConnection:
    """Runs coroutines on the client's loop for callers on other threads. Anyone who opened it has to close it.

    Methods raise UnavailableError (`LOG_UNAVAILABLE`) if the connection was closed, or the servers failed.
    """

    def __init__(
        self,
        url: LogUrl,
        *,
        name: str,
        creds_file: Path | None = None,
        ca_file: Path | None = None,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._url = url
        self._on_wait = on_wait  # called with what is waited for, on the thread of the loop
        self._name = name
        self._creds_file = creds_file
        self._tls = ssl.create_default_context(cafile=ca_file) if url.tls or ca_file else None
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nats", daemon=True)
        self._subscriptions: dict[str, Callback] = {}
        self._subscribed: dict[str, Subscription] = {}
        self.client = Client()  # the current one; use it on the loop
        self._connected = asyncio.Event()
        self._refused: asyncio.Future[None] | None = None
        self._last_error = ""
        self.closed = False
        self._tasks: set[asyncio.Task[Any]] = set()

    def open(self, timeout: float) -> None:
        """Connect, within `timeout` seconds; InvalidError: the servers refuse the credentials (`LOG_CREDENTIALS`)."""
        self._thread.start()
        self.call(self._connect(timeout))

    def close(self) -> None:
        """Disconnect; calls in progress fail. Idempotent."""
        if self.closed or not self._thread.is_alive():
            return
        self.closed = True
        asyncio.run_coroutine_threadsafe(self._disconnect(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.result(self.submit(coroutine))

    def result(self, future: concurrent.futures.Future[T]) -> T:
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise self.unavailable("the connection was closed") from None
        except (nats.errors.Error, OSError) as error:
            raise self.unavailable(str(error) or type(error).__name__) from error

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        if self.closed:
            coroutine.close()
            raise self.unavailable("the connection was closed")
        return asyncio.run_coroutine_threadsafe(self._run(coroutine), self._loop)

    def post(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a coroutine on the loop, from any thread, without waiting for it. Never raises."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self.spawn, function)

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a coroutine, from the loop itself; it ends with the connection."""
        if not self.closed:
            task = self._loop.create_task(function())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    @property
    def jetstream(self) -> JetStreamContext:
        return self.client.jetstream(timeout=REQUEST_SECONDS)

    async def persist(
        self, operation: Callable[[], Awaitable[T]], *, seconds: float = OPERATION_SECONDS, waiting: str = ""
    ) -> T:
        """Run an operation, on the loop, again and again until a server answers; for `seconds` if none does.

        It must be harmless to run twice. Answers that say no (404, 400) are raised at once. With `waiting`, that is
        logged when the first attempt has failed.
        """
        deadline = self._loop.time() + seconds
        while True:
            try:
                return await operation()
            except (nats.errors.Error, OSError) as error:
                if isinstance(error, APIError) and not isinstance(error, (ServiceUnavailableError, ServerError)):
                    raise
                if waiting:
                    cause = str(error) or type(error).__name__
                    log.warning(waiting, seconds=seconds, cause=cause)
                    self._on_wait(f"{waiting}: {cause}")
                    waiting = ""
                if self._loop.time() >= deadline:
                    raise
            await asyncio.sleep(PAUSE_SECONDS)
            await self.wait_connected(deadline - self._loop.time())

    @property
    def server(self) -> tuple[str, str]:
        info = self.client._server_info  # noqa: SLF001 - the client says the version only
        return info.get("server_name", ""), info.get("version", "")

    @property
    def offers_jetstream(self) -> bool:
        return bool(self.client._server_info.get("jetstream"))  # noqa: SLF001

    async def wait_connected(self, seconds: float) -> bool:
        await wait_at_most(seconds, self._connected.wait())
        return self._connected.is_set()

    async def subscribe(self, subject: str, callback: Callback) -> None:
        """Receive the messages of a subject, for as long as the connection is open and through all reconnections."""
        self._subscriptions[subject] = callback
        self._subscribed[subject] = await self.client.subscribe(subject, cb=callback)

    async def unsubscribe(self, subject: str) -> None:
        self._subscriptions.pop(subject, None)
        subscribed = self._subscribed.pop(subject, None)
        if subscribed:
            with contextlib.suppress(nats.errors.Error):  # of a connection that has ended
                await subscribed.unsubscribe()

    def unavailable(self, cause: str) -> UnavailableError:
        """Make the error for callers of what the log's servers did not do."""
        where = ", ".join(self._url.servers)
        last = f"; last error of the connection: {self._last_error}" if self._last_error else ""
        return UnavailableError(f"the log at {where} is not available: {cause}{last}", reason="LOG_UNAVAILABLE")

    async def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        try:
            return await task
        finally:
            self._tasks.discard(task)

    async def _connect(self, seconds: float) -> None:
        self._refused = self._loop.create_future()
        connecting = self._loop.create_task(self._connect_client())
        await asyncio.wait({connecting, self._refused}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not connecting.done():
            connecting.cancel()
            await asyncio.wait({connecting})
            if self._refused.done():
                raise InvalidError(
                    f"the servers of the log refuse the credentials of {self._url.user or 'this router'!r}: correct "
                    "user and password in the URL or the credentials file, or `authorization` in the servers' "
                    "configuration",
                    reason="LOG_CREDENTIALS",
                )
            raise self.unavailable(f"no server was reached in {seconds:g} s")
        connecting.result()
        self._refused = None
        self.spawn(self._replace_closed_clients)

    async def _connect_client(self) -> None:
        client = Client()
        user, password = self._url.user, self._url.password
        login: dict[str, Any] = {"user": user, "password": password} if user else {"token": password or None}
        if self._creds_file:
            login = {"user_credentials": str(self._creds_file)}
        try:
            await client.connect(
                [f"{'tls' if self._url.tls else 'nats'}://{server}" for server in self._url.servers],
                name=self._name,
                error_cb=self._report,
                disconnected_cb=self._on_disconnected,
                reconnected_cb=self._on_connected,
                connect_timeout=CONNECT_SECONDS,
                reconnect_time_wait=RECONNECT_SECONDS,  # type: ignore[arg-type]  # a float will do
                max_reconnect_attempts=-1,
                ping_interval=PING_SECONDS,
                max_outstanding_pings=PINGS_MISSED,
                pending_size=0,  # nothing is buffered while there is no connection
                tls=self._tls,
                **login,
            )
            for subject, callback in list(self._subscriptions.items()):
                self._subscribed[subject] = await client.subscribe(subject, cb=callback)
        except BaseException:
            await _discard(client)
            raise
        self.client = client
        await self._on_connected()

    async def _replace_closed_clients(self) -> None:
        while not self.closed:
            await asyncio.sleep(RECONNECT_SECONDS)
            if self.client.is_closed:
                self._connected.clear()
                try:
                    await self._connect_client()
                except Exception as error:  # noqa: BLE001 - whatever it is: nothing else would ever connect again
                    await self._report(error)

    async def _disconnect(self) -> None:
        while tasks := self._tasks - {asyncio.current_task()}:
            # again: before Python 3.12, `wait_for` in nats-py loses a cancellation that coincides with its result
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=PAUSE_SECONDS)
        await _discard(self.client)
        await asyncio.sleep(0)

    async def _report(self, error: Exception) -> None:
        cause = str(error) or type(error).__name__
        if self._refused:
            if not self._last_error:
                log.warning("waiting for a server of the log", cause=cause)
            self._on_wait(f"waiting for a server of the log at {', '.join(self._url.servers)}: {cause}")
        self._last_error = cause
        if self._refused and not self._refused.done() and "authorization" in self._last_error.lower():
            self._refused.set_result(None)

    async def _on_connected(self) -> None:
        self._connected.set()
        log.info(
            "connected to a server of the log",
            server=str(self.client.connected_url and self.client.connected_url.netloc),
        )

    async def _on_disconnected(self) -> None:
        self._connected.clear()
        if not self.closed:
            log.warning("disconnected from the servers of the log", error=self._last_error)


async def _discard(client: Client) -> None:
    with contextlib.suppress(nats.errors.Error, OSError, TimeoutError, AssertionError, AttributeError):
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await client.close()
        except asyncio.CancelledError:  # also if nats-py waits for a task that it cancelled itself
            if (current := asyncio.current_task()) is not None and current.cancelling():
                raise
