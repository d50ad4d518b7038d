"""Real HTTP servers on free ports, for what the product calls."""

from __future__ import annotations

from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def http_server(handler, *, tls=None, shutdown_timeout=60.0, **options):
    """Serve every method and path with a handler, and yield the base URL; `options` are those of the application."""
    application = web.Application(**options)
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=shutdown_timeout)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
