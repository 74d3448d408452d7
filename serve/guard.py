"""What every request passes: who it is from, how large and how fast it is, what is written down about it.

One plain ASGI layer around the whole application, API and pages alike.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.exceptions import HTTPException

from sensorium.serve.measurements import Measurements
from sensorium.serve.options import ServeOptions, is_loopback

__all__ = ["COOKIE", "Guard"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

access = logging.getLogger("sensorium.serve.access")
logger = logging.getLogger(__name__)

COOKIE = "sensorium"
#: answered without a sign-in: they say nothing about data
_OPEN = frozenset({"/healthz", "/readyz", "/sign-in", "/favicon.ico"})
_REQUEST_ID = re.compile(rb"[\w.-]{1,64}")
#: clients whose budgets of requests are remembered
_CLIENTS = 10_000
_CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
#: the pages run scripts and styles of their own inside the document; nothing may come from, or go to, another host
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' 'wasm-unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; frame-src 'self' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_SECURITY = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]


class _Refusal(HTTPException):
    """An answer instead of the application's; raised in the middle of it, the application answers with it."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        # what has not been read of the body is not read any more
        close = {"Connection": "close"} if status in (408, 413) else {}
        super().__init__(status, detail, {**close, **(headers or {})})


class _Body:
    """The body of a request on its way in, with limits on size and time."""

    def __init__(self, receive: Receive, options: ServeOptions) -> None:
        self._receive, self._options = receive, options
        self._deadline = 0.0
        self._complete = False
        self.size = 0

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()  # the client going away
        now = asyncio.get_running_loop().time()
        self._deadline = self._deadline or now + self._options.body_seconds
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise _Refusal(408, f"the request did not arrive within {self._options.body_seconds:g} s.") from None
        if message["type"] == "http.request":
            self.size += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self.size > self._options.body_bytes:
                raise _too_large(self._options)
        return message


def _too_large(options: ServeOptions) -> _Refusal:
    return _Refusal(
        413, f"a request may have {options.body_bytes >> 20} MB. Send less, or import the file into the lake."
    )


class _Budget:
    """Requests of each client: so many a second, with twice as many saved up at most."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> float:
        """0, or the seconds after which the client may ask again."""
        if not self._rate:
            return 0.0
        now = time.monotonic()
        left, since = self._left.pop(client, (2 * self._rate, now))
        left = min(2 * self._rate, left + (now - since) * self._rate)
        wait = 0.0 if left >= 1 else (1 - left) / self._rate
        self._left[client] = (left - 1 if left >= 1 else left), now
        if len(self._left) > _CLIENTS:
            self._left.popitem(last=False)
        return wait


class Guard:
    """The layer; an ASGI application."""

    def __init__(self, application: Application, options: ServeOptions, measurements: Measurements) -> None:
        self._application, self._options, self._measurements = application, options, measurements
        self._budget = _Budget(options.rate)
        self._key = secrets.token_bytes(32)
        self._hosts = _host_names(options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "websocket":  # nothing here speaks it
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        started = time.perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        body = _Body(receive, self._options)
        seen = {"status": 0, "bytes": 0}

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                own = [(b"x-request-id", request_id.encode()), *_SECURITY]
                message["headers"] = [*message.get("headers", ()), *own]
            elif message["type"] == "http.response.body":
                seen["bytes"] += len(message.get("body", b""))
            await send(message)

        user = ""
        try:
            user = self._admitted(scope, headers)
            await self._application(scope, body, answer)
        except _Refusal as refusal:
            if not seen["status"]:
                await _refuse(answer, refusal)
        except Exception:
            logger.exception("request %s failed", request_id)
            if not seen["status"]:
                await _refuse(answer, _Refusal(500, f"the server failed; the operator finds {request_id} in its log."))
        finally:
            seconds = time.perf_counter() - started
            self._note(scope, request_id, user, seen, seconds, body.size)

    # -- who ----------------------------------------------------------------------------------------------------------

    def _admitted(self, scope: Scope, headers: Mapping[bytes, bytes]) -> str:
        """The user's name, or what stands for it; raises a refusal."""
        options = self._options
        client = scope["client"][0] if scope.get("client") else ""
        host = headers.get(b"host", b"").decode("latin-1")
        if self._hosts and _bare(host) not in self._hosts:
            # a page elsewhere whose name was made to point here would otherwise read everything
            raise _Refusal(
                421, f"this server does not answer for {host[:100]!r}. Add --name to serve under another name."
            )
        method = scope["method"]
        origin = headers.get(b"origin", b"").decode("latin-1")
        if method in _CHANGING and origin and urlsplit(origin).netloc != host:
            raise _Refusal(403, "pages of other sites may not use this server.")
        wait = self._budget.take(client)
        if wait:
            again = str(max(1, round(wait)))
            raise _Refusal(429, f"more than {options.rate:g} requests a second.", {"Retry-After": again})
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > options.body_bytes:
            raise _too_large(options)
        if not options.guarded or scope["path"] in _OPEN:
            return ""
        return self._signed_in(client, headers)

    def _signed_in(self, client: str, headers: Mapping[bytes, bytes]) -> str:
        options = self._options
        if options.proxy_header and client in options.proxies:
            user = headers.get(options.proxy_header.lower().encode(), b"").decode("latin-1").strip()
            if user:
                return user[:200]
        if options.token:
            scheme, _, given = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
            if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), options.token.encode()):
                return "token"
            if hmac.compare_digest(_cookie(headers).encode(), self.cookie().encode()):
                return "cookie"
        page = b"text/html" in headers.get(b"accept", b"")
        if page and options.token:
            raise _Refusal(303, "sign in first.", {"Location": "/sign-in"})
        raise _Refusal(401, "say who you are: Authorization: Bearer TOKEN.", {"WWW-Authenticate": "Bearer"})

    def cookie(self) -> str:
        """What a browser keeps once it has signed in: worthless after the server has ended."""
        return hmac.new(self._key, self._options.token.encode(), hashlib.sha256).hexdigest()

    def opens(self, body: bytes) -> bool:
        """Whether a form, as the page for signing in sends it, holds the token."""
        given = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0]
        return bool(self._options.token) and hmac.compare_digest(given.encode(), self._options.token.encode())

    # -- what is written down -----------------------------------------------------------------------------------------

    def _note(
        self, scope: Scope, request_id: str, user: str, seen: Mapping[str, int], seconds: float, received: int
    ) -> None:
        route = scope.get("route")
        place = getattr(route, "path_format", None) or getattr(route, "path", None) or "other"
        self._measurements.request(scope["method"], str(place), seen["status"], seconds)
        if not access.isEnabledFor(logging.INFO):
            return
        client = scope["client"][0] if scope.get("client") else ""
        # the path without its query, which may hold what somebody asked
        record = {
            "id": request_id,
            "client": client,
            "user": user,
            "method": scope["method"],
            "path": scope["path"][:500],
            "status": seen["status"],
            "ms": round(1e3 * seconds, 2),
            "received": received,
            "sent": seen["bytes"],
        }
        access.info("%s %s %d", record["method"], record["path"], record["status"], extra={"fields": record})


async def _refuse(send: Send, refusal: HTTPException) -> None:
    body = json.dumps({"error": refusal.detail}).encode()
    own = {"content-type": "application/json", "content-length": str(len(body)), **(refusal.headers or {})}
    headers = [(name.lower().encode(), value.encode()) for name, value in own.items()]
    await send({"type": "http.response.start", "status": refusal.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _host_names(options: ServeOptions) -> frozenset[str]:
    """Names that requests may be for; empty for any, where a sign-in keeps strangers out."""
    if not is_loopback(options.host) and not options.names:
        return frozenset()
    own = {"localhost", "127.0.0.1", "[::1]", "::1", options.host}
    return frozenset(name.lower() for name in (*own, *options.names))


def _bare(host: str) -> str:
    """A host header without its port."""
    name, mark, port = host.rpartition(":")
    return (name if mark and port.isdigit() and not name.endswith(":") else host).lower()


def _cookie(headers: Mapping[bytes, bytes]) -> str:
    for part in headers.get(b"cookie", b"").decode("latin-1").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""
