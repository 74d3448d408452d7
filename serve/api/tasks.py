"""Long jobs: bulk prediction of a data set of the lake into another."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from sensorium.serve.api.encoding import json_response
from sensorium.serve.bulk import predict_in_bulk
from sensorium.serve.tasks import Job

__all__ = ["Bulk", "router"]

router = APIRouter(prefix="/v1/tasks", tags=["tasks"])


class Bulk(BaseModel):
    """A prediction of a whole data set."""

    model: str = Field(examples=["water@production"], description="NAME, NAME@VERSION or NAME@STAGE")
    data: str = Field(examples=["water@3"], description="NAME or NAME@VERSION")
    into: str = Field(examples=["water_predictions"], description="data set of the results; goes on where it stopped")
    where: str = Field("", description="SQL condition; only samples for which it holds")
    workers: int = Field(1, ge=1, le=64, description="replicas of the model")


@router.post("", status_code=202)
async def start(request: Request, bulk: Bulk) -> Response:
    """Begin a bulk prediction; the answer says where to ask after it."""
    given = request.app.state.service
    served = await given.gateway.resolve(bulk.model)
    catalog = given.gateway.catalog
    job = given.tasks.start(
        "predict",
        lambda: predict_in_bulk(catalog, served.reference, bulk.data, bulk.into, bulk.where, bulk.workers),
    )
    return json_response(_shown(job), 202, {"Location": f"/v1/tasks/{job.id}"})


@router.get("")
async def tasks(request: Request) -> Response:
    """The jobs that this server remembers, newest first."""
    return json_response([_shown(job) for job in request.app.state.service.tasks.all()])


@router.get("/{identifier}")
async def task(request: Request, identifier: str) -> Response:
    """State and result of a job."""
    return json_response(_shown(request.app.state.service.tasks.get(identifier)))


@router.delete("/{identifier}")
async def cancel(request: Request, identifier: str) -> Response:
    """Stop a job. What it has committed stays; the same request goes on from there."""
    return json_response(_shown(await request.app.state.service.tasks.cancel(identifier)))


def _shown(job: Job) -> dict[str, Any]:
    return {**asdict(job), "status": f"/v1/tasks/{job.id}"}
