from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web
from support.http_servers import http_server

from edge.webhook.document_fetcher import DocumentFetcher
from flowhook.security.address_policy import AddressPolicy


async def respond(_request):
    return web.Response(body=b"keys")


async def test_documents_are_fetched_while_all_threads_verify_bodies():
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    fetcher = DocumentFetcher(AddressPolicy.LOOPBACK)
    verified = threading.Event()
    async with http_server(respond) as url:
        assert await fetcher.fetch(url) == b"keys"
        verifying = asyncio.get_running_loop().run_in_executor(None, verified.wait)
        try:
            async with asyncio.timeout(5):
                assert await fetcher.fetch(url) == b"keys"
        finally:
            verified.set()
            await verifying
            await fetcher.close()
