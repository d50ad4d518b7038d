"""Calls of components: what tests say of their outcomes, and a server that tells what it was sent."""

from __future__ import annotations

from aiohttp import web


def kind(error):
    return error.type.rpartition("/")[2], error.status


async def echo(request):
    return web.json_response(
        {
            "method": request.method,
            "path": request.path_qs,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "body": (await request.read()).decode(),
        }
    )
