"""The front: one process that holds the API and the pages, and listens where it was told and nowhere else.

Ray Serve's own proxy is not used: it has no limit on bodies, answers a tenth of the requests a second that this does, and
its fast mode listens on all interfaces (``docs/decisions/0008-serving.md``). The front is a deployment all the same, so that
Serve starts it again when it dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Any

from sensorium.catalog.lake import Catalog
from sensorium.platform.errors import UserError
from sensorium.platform.storage import Storage
from sensorium.serve import journal
from sensorium.serve.options import ServeOptions

__all__ = ["Front", "bound"]

logger = logging.getLogger(__name__)

#: seconds that open requests have to end when the front is stopped
_GRACE_S = 10
#: connections that wait for the front to take them
_BACKLOG = 512
#: connections at a time; a further one is answered with 503
_CONNECTIONS = 1000


class Front:
    """The deployment."""

    def __init__(self, lake: Storage, options: ServeOptions, host: Any) -> None:
        """``host``: handle of the model host."""
        self._lake, self._options, self._host = lake, options, host
        self._serving: asyncio.Task[None] | None = None
        self._server: Any = None

    async def check_health(self) -> None:
        """Serve asks this once before the application runs, when the front begins to listen, and every few seconds."""
        if self._serving is None:
            await self._start()
        elif self._serving.done():
            raise RuntimeError("the front does not listen any more")
        journal.flush()

    async def __del__(self) -> None:
        """Let open requests end."""
        if self._server is None or self._serving is None:
            return
        self._server.should_exit = True
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._serving, _GRACE_S)
        journal.flush()

    async def _start(self) -> None:
        from sensorium.serve.hosts import ServeHosts

        options = self._options
        journal.open_journal(options.log)
        listening = bound(options.host, options.port)
        catalog = Catalog(self._lake.root if self._lake.local else self._lake.url, options=self._lake.options)
        self._server = server_of(catalog, ServeHosts(self._host), options)
        serving = asyncio.create_task(self._server.serve(sockets=[listening]))
        while not self._server.started and not serving.done():
            await asyncio.sleep(0.01)
        if serving.done():
            serving.result()
        self._serving = serving


def server_of(catalog: Catalog, hosts: Any, options: ServeOptions) -> Any:
    """A uvicorn server of API and pages over a lake; call it in the event loop that it is to run in."""
    import uvicorn

    from sensorium.serve.composition import compose
    from sensorium.serve.wire import BoundedProtocol

    class Server(uvicorn.Server):
        """Signals are the business of the process that this one is part of."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    config = uvicorn.Config(
        compose(catalog, hosts, options),
        http=BoundedProtocol,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        backlog=_BACKLOG,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_GRACE_S,
    )
    return Server(config)


def bound(host: str, port: int) -> socket.socket:
    """A socket that is bound to exactly this address.

    Raises:
        UserError: it is taken, or is none of this machine's.
    """
    bare = host.strip("[]")
    listening: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        if listening is not None:
            listening.close()
        raise UserError(
            f"{host}:{port} cannot be listened on: {error.strerror or error}. Choose another --port or --host, or stop what "
            "holds it."
        ) from error
    listening.setblocking(False)
    return listening
