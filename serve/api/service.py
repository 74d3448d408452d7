"""Health, counters, and the page for signing in."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse

from sensorium.serve.api.encoding import json_response
from sensorium.serve.guard import COOKIE

__all__ = ["router"]

_FORM_BYTES = 4096
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Sensorium: sign in</title><style>body{{font:1rem system-ui,sans-serif;max-width:24rem;margin:15vh auto;padding:0 1rem}}
input,button{{font:inherit;padding:.5rem;width:100%;box-sizing:border-box;margin:.3rem 0}}</style>
<h1>Sensorium</h1><form method="post"><label for="token">Token of this server</label>
<input id="token" name="token" type="password" autocomplete="current-password" autofocus required>
<button>Sign in</button></form><p role="alert">{said}</p></html>"""


def router(opens: Callable[[bytes], bool] | None, cookie: Callable[[], str] | None) -> APIRouter:
    """Routes of the service itself."""
    routes = APIRouter(tags=["service"])

    @routes.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        """Whether the process answers."""
        return "ok\n"

    @routes.get("/readyz")
    def readyz(request: Request) -> Response:
        """Whether requests can be answered: the lake can be read, and a replica runs."""
        gateway = request.app.state.service.gateway
        state = gateway.health()
        gateway.models()
        ready = state.get("replicas", 0) > 0
        return json_response({"ready": ready, "replicas": state.get("replicas", 0)}, 200 if ready else 503)

    @routes.get("/metrics", response_class=PlainTextResponse)
    def metrics(request: Request) -> Response:
        """Counters for Prometheus."""
        given = request.app.state.service
        given.measurements.replicas.set(given.gateway.health().get("replicas", 0))
        return Response(given.measurements.text(), media_type="text/plain; version=0.0.4")

    if opens is None or cookie is None:
        return routes

    @routes.get("/sign-in", response_class=HTMLResponse, include_in_schema=False)
    async def form() -> str:
        return _PAGE.format(said="")

    @routes.post("/sign-in", response_class=HTMLResponse, include_in_schema=False)
    async def sign_in(request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _FORM_BYTES:
                break
        if len(body) > _FORM_BYTES or not opens(body):
            return HTMLResponse(_PAGE.format(said="That is not the token of this server."), 401)
        answer = RedirectResponse("/", 303)
        secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
        answer.set_cookie(COOKIE, cookie(), httponly=True, samesite="strict", secure=secure)
        return answer

    return routes
