"""A server in a thread of the test's process: the whole front, with models in the same process."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from sensorium.catalog import Catalog
from sensorium.platform import plugins
from sensorium.serve.front import bound, server_of
from sensorium.serve.hosts import LocalHosts
from sensorium.serve.options import ServeOptions
from tests.serve import small_cnn

__all__ = ["installed", "running"]


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """The small system is installed for the length of the block."""
    before = sys.path[:]
    sys.path[:0] = small_cnn.install(folder)["PYTHONPATH"].split(":")
    for cached in (plugins._group, plugins._loaded):
        cached.cache_clear()
    try:
        yield
    finally:
        sys.path[:] = before
        for cached in (plugins._group, plugins._loaded):
            cached.cache_clear()


@contextmanager
def running(catalog: Catalog, options: ServeOptions) -> Iterator[httpx.Client]:
    """A client of a server that ends with the block."""
    listening = bound(options.host, options.port)
    address = listening.getsockname()
    started: threading.Event = threading.Event()
    servers = []

    async def serve() -> None:
        server = server_of(catalog, LocalHosts(catalog.storage), options)
        servers.append(server)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        started.set()
        await serving

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    started.wait(30)
    with httpx.Client(base_url=f"http://{address[0]}:{address[1]}", timeout=30) as client:
        try:
            yield client
        finally:
            servers[0].should_exit = True
            thread.join(30)
