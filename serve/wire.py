"""Limits that must hold before there is a request: how large the head of one may be, and how long it may take."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["HEAD_BYTES", "HEAD_SECONDS", "BoundedProtocol"]

#: request line and headers together
HEAD_BYTES = 64 << 10
HEAD_SECONDS = 10.0

_ANSWERS = {
    408: b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    431: b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
}


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which by itself would collect headers for ever."""

    _head_bytes = 0
    _complete = False
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._rest()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Refuse a head that goes on and on."""
        super().data_received(data)
        if self._complete or self.transport is None or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES:
            self._refuse(431)
        elif self._timer is None:
            self._wait()

    def on_message_begin(self) -> None:
        """A new head."""
        self._complete, self._head_bytes = False, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is there; its body has limits of its own."""
        self._complete = True
        self._rest()
        super().on_headers_complete()

    def _wait(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self._refuse, 408)

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refuse(self, status: int) -> None:
        self._rest()
        transport: Any = self.transport
        if transport is not None and not transport.is_closing():
            transport.write(_ANSWERS[status])
            transport.close()
