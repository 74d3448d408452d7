"""The FastAPI application: routes, and what an error becomes."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from sensorium.platform.errors import (
    CorruptData,
    InvalidQuery,
    MissingCredentials,
    SensoriumError,
    StorageError,
    UnknownDataset,
    UnknownModel,
    UnknownPlugin,
    UnknownRun,
    UnknownSample,
    UnknownVersion,
    UserError,
)
from sensorium.serve.api import catalog, models, schemas, service, tasks
from sensorium.serve.api.encoding import json_response
from sensorium.serve.gateway import Busy, Gateway, Late
from sensorium.serve.measurements import Measurements
from sensorium.serve.options import ServeOptions
from sensorium.serve.tasks import Tasks, UnknownTask
from sensorium.serve.uploads.errors import RejectedUpload

__all__ = ["Service", "build"]

logger = logging.getLogger(__name__)

_DESCRIPTION = """Fitted models, data sets and sweeps of a lake. An answer names the model's version, the data that it was
fitted on and the run of the fit. Errors are `{"error": "a sentence", "request": "id"}`."""

_MISSING = (UnknownTask, UnknownDataset, UnknownModel, UnknownPlugin, UnknownRun, UnknownSample, UnknownVersion)


@dataclass(frozen=True)
class Service:
    """What the routes work with.

    Attributes:
        gateway: to models and data.
        tasks: long jobs.
        measurements: counters.
        options: of the service.
    """

    gateway: Gateway
    tasks: Tasks
    measurements: Measurements
    options: ServeOptions


def build(
    given: Service, opens: Callable[[bytes], bool] | None = None, cookie: Callable[[], str] | None = None
) -> FastAPI:
    """The application of one service, without the layer that guards it.

    Args:
        given: see :class:`Service`.
        opens: whether the form for signing in holds the token.
        cookie: what a browser is given then.
    """

    @asynccontextmanager
    async def lifespan(application: FastAPI) -> AsyncIterator[None]:  # noqa: ARG001 - the signature is FastAPI's
        yield
        await given.tasks.close()
        await given.gateway.close()

    application = FastAPIOffline(
        title="Sensorium",
        version=version("sensorium"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
    )
    application.state.service = given
    # looked through in this order: what is asked most comes first
    for part in (models.router, service.router(opens, cookie), catalog.router, tasks.router):
        application.include_router(part)
    application.add_exception_handler(SensoriumError, _ours)
    application.add_exception_handler(HTTPException, _http)
    application.add_exception_handler(RequestValidationError, _invalid)
    schemas.describe(application, given.gateway)
    return application


def _failure(request: Request, status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    # where the lake is, is nobody's business out there
    lake = request.app.state.service.gateway.catalog.storage
    for place in (lake.url, lake.root):
        text = text.replace(place, "the lake") if len(place) > 1 else text
    content = {"error": text, "request": getattr(request.state, "request_id", "")}
    return json_response(content, status, headers)


async def _ours(request: Request, error: Exception) -> Response:
    status = status_of(error)
    if status >= 500 and not isinstance(error, Busy):
        logger.error("request %s: %s", getattr(request.state, "request_id", ""), error, exc_info=error)
    return _failure(request, status, str(error), {"Retry-After": "1"} if status == 503 else None)


def status_of(error: Exception) -> int:
    """The HTTP status of an error of ours."""
    if isinstance(error, RejectedUpload):
        return error.status
    if isinstance(error, Busy):
        return 503
    if isinstance(error, Late):
        return 408
    if isinstance(error, _MISSING):
        return 404
    if isinstance(error, InvalidQuery):
        return 400
    if isinstance(error, MissingCredentials | CorruptData | StorageError):
        return 500
    return 422 if isinstance(error, UserError) else 500


async def _http(request: Request, error: Exception) -> Response:
    status: int = getattr(error, "status_code", 500)
    detail: Any = getattr(error, "detail", "")
    return _failure(request, status, str(detail), dict(getattr(error, "headers", None) or {}))


async def _invalid(request: Request, error: Exception) -> Response:
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {}
    place = ".".join(str(part) for part in first.get("loc", ()))
    return _failure(request, 422, f"{place}: {first.get('msg', 'invalid')}.")
