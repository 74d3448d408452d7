"""Systems, fitted models and their predictions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from starlette.datastructures import UploadFile

from sensorium.catalog import modality as modalities
from sensorium.jobs.training import configuration
from sensorium.jobs.training.operators import Configured, configured
from sensorium.platform.errors import InvalidSample, SensoriumError
from sensorium.serve.api.encoding import json_response, npz_bytes, png_url
from sensorium.serve.gateway import Answer, ServedModel, only
from sensorium.serve.uploads import npy
from sensorium.serve.uploads.errors import NOT_TAKEN, RejectedUpload

if TYPE_CHECKING:
    from sensorium.catalog.models import Model

__all__ = ["router"]

router = APIRouter(prefix="/v1", tags=["models"])

#: samples of one request
_MOST_SAMPLES = 64
#: query parameters that are the request's own; all others are fields of the sample
_OWN = frozenset({"pictures", "format", "set"})


@router.get("/systems")
def systems(request: Request) -> Response:
    """The installed systems: what each is, the data that it needs, and its fitted models."""
    gateway = request.app.state.service.gateway
    fitted = gateway.models()
    found = [
        {
            "name": system.name,
            "title": system.title,
            "modality": system.modality,
            "needs": system.needs,
            "claim": system.claim,
            "paper": system.paper,
            "operations": list(system.operations),
            "models": [
                f"{name}@{version}"
                for name, version in fitted.filter(system=system.name).select("name", "version").iter_rows()
            ],
        }
        for system in gateway.systems()
    ]
    return json_response(found)


@router.get("/models")
def models(request: Request) -> Response:
    """Every version of every model, newest first."""
    rows = request.app.state.service.gateway.models().to_dicts()
    for row in rows:
        row["metrics"] = json.loads(row["metrics"] or "{}")
    return json_response(rows)


@router.get("/models/{reference}")
def model(request: Request, reference: str) -> Response:
    """One version: what it takes and gives, how it was fitted, how good it is."""
    gateway = request.app.state.service.gateway
    served = gateway.served(reference)
    if isinstance(served.model, Configured):
        return json_response(_used(served))
    return json_response({**_used(served), **_described(served.model, gateway.stages(served))})


@router.post("/models/{reference}/predict")
async def predict(
    request: Request,
    reference: str,
    pictures: bool = False,
    format: str = "json",  # noqa: A002
    settings: Annotated[list[str] | None, Query(alias="set")] = None,
) -> Response:
    """Predict samples, with a model or an operator; the latter is named by its system, and configured by `set=KEY=VALUE`.

    The body is one of: a NumPy array (`.npy`) for the model's array field; an NPZ file with fields by name; a file of the
    modality (a photograph, a recording …); a form with files and values by field; or JSON, `{"sample": {…}}`,
    `{"samples": [{…}, …]}` or `{"dataset": "NAME@VERSION", "ids": ["…"]}`. Further query parameters are fields of the sample.
    """
    given = request.app.state.service
    if settings:
        reference = (await asyncio.to_thread(configured, reference, settings)).reference
    served = await given.gateway.resolve(reference)
    if format not in ("json", "npz"):
        raise InvalidSample(f"format is json or npz; got {format!r:.20}.")
    samples, single = await _samples(request, served)
    answers = await given.gateway.predict(reference, samples, pictures=pictures)
    for answer in answers:
        failed = isinstance(answer, SensoriumError)
        given.measurements.prediction(served.label, 0 if failed else answer.batch, failed=failed)
    if format == "npz":
        if not single:
            raise InvalidSample("an NPZ file holds the result of one sample: send one, or ask for format=json.")
        answer = only(answers)
        headers = {"X-Model": answer.model, "X-Run": answer.run}
        return Response(npz_bytes(answer.result), 200, headers, "application/x-npz")
    request_id = request.state.request_id
    if single:
        return json_response({**_shown(only(answers)), "request": request_id})
    results = [{"error": str(one)} if isinstance(one, SensoriumError) else _shown(one) for one in answers]
    return json_response({"model": served.reference, "request": request_id, "results": results})


def _shown(answer: Answer) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "model": answer.model,
        "system": answer.system,
        "data": list(answer.data),
        "run": answer.run,
        "result": answer.result,
        "batch": answer.batch,
        "seconds": round(answer.seconds, 6),
    }
    if answer.pictures:
        shown["pictures"] = {name: png_url(content) for name, content in answer.pictures.items()}
    return shown


def _used(served: ServedModel) -> dict[str, Any]:
    """What it takes and gives."""
    return {
        "model": served.reference,
        "system": served.model.system,
        "modality": served.modality,
        "fields": list(served.fields),
        "results": {field.name: field.description for field in served.method.results(served.config)},
        "configuration": configuration.to_json(served.config),
    }


def _described(model: Model, stages: tuple[str, ...]) -> dict[str, Any]:
    """How a model was made, and how good it is."""
    return {
        "stages": list(stages),
        "created": model.created,
        "run": model.run,
        "data": [str(source) for source in model.sources],
        "description": model.description,
        "parameters": model.parameters,
        "metrics": model.metrics,
        "environment": model.environment,
    }


# -- samples from requests ---------------------------------------------------------------------------------------------


async def _samples(request: Request, served: ServedModel) -> tuple[list[dict[str, Any]], bool]:
    """Samples of a request, and whether it was for one."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    scalars = {name: _value(text) for name, text in request.query_params.items() if name not in _OWN}
    if kind == "application/json":
        return await _from_json(request, served, await request.body())
    if kind == "multipart/form-data":
        return [await _from_form(request, served, scalars)], True
    body = await request.body()
    if body.startswith(npy.MAGIC):
        return [await _read(request, served, {main_field(served): body}, scalars)], True
    if not body:
        raise RejectedUpload("the request has no body. Send an array, a file, a form or JSON; see /docs.", NOT_TAKEN)
    return [await _read(request, served, {"file": body}, scalars)], True


async def _from_form(request: Request, served: ServedModel, scalars: Mapping[str, Any]) -> dict[str, Any]:
    files: dict[str, bytes] = {}
    values = dict(scalars)
    async with request.form(max_files=16, max_fields=64) as form:
        for name, part in form.multi_items():
            if isinstance(part, UploadFile):
                files[name] = await part.read()
            else:
                values[name] = _value(part)
    return await _read(request, served, files, values)


async def _from_json(request: Request, served: ServedModel, body: bytes) -> tuple[list[dict[str, Any]], bool]:
    given = request.app.state.service
    if len(body) > given.gateway.limits.json_bytes:
        raise RejectedUpload(
            f"JSON may have {given.gateway.limits.json_bytes >> 20} MB. Send larger arrays as NPZ.", 413
        )
    try:
        content = await asyncio.to_thread(json.loads, body)
    except (ValueError, RecursionError) as error:
        raise RejectedUpload(f"the body is not JSON: {error!s:.120}.") from error
    if not isinstance(content, dict):
        raise RejectedUpload('the body must be an object such as {"sample": {…}}.')
    if "dataset" in content:
        ids = content.get("ids")
        if not isinstance(ids, list) or not 0 < len(ids) <= _MOST_SAMPLES or not all(isinstance(i, str) for i in ids):
            raise RejectedUpload(f"ids must be a list of 1 to {_MOST_SAMPLES} texts.")
        return await asyncio.to_thread(
            stored_samples, given.gateway.catalog, str(content["dataset"]), ids, served
        ), False
    many = content.get("samples", [content["sample"]] if "sample" in content else None)
    if not isinstance(many, list) or not 0 < len(many) <= _MOST_SAMPLES or not all(isinstance(s, dict) for s in many):
        raise RejectedUpload(f'give {{"sample": {{…}}}}, or "samples" with 1 to {_MOST_SAMPLES} of them.')
    read = [await _read(request, served, {}, sample) for sample in many]
    return read, "samples" not in content


async def _read(
    request: Request, served: ServedModel, files: Mapping[str, bytes], scalars: Mapping[str, Any]
) -> dict[str, Any]:
    gateway = request.app.state.service.gateway
    sample: dict[str, Any] = await gateway.read(files, served.modality, scalars)
    return {"id": "request", **sample}


def stored_samples(catalog: Any, dataset: str, ids: list[str], served: ServedModel) -> list[dict[str, Any]]:
    """Samples of the lake, with the fields that a prediction needs; arrays are read."""
    selection = catalog.dataset(dataset).select()
    samples = []
    for identifier in ids:
        sample = selection[identifier]
        fields = [name for name in served.read if name in sample]
        samples.append({"id": identifier, **{name: sample[name] for name in fields}})
    return samples


def main_field(served: ServedModel) -> str:
    """The array field that a bare array is taken for."""
    arrays = modalities.get(served.modality).arrays
    wanted = [name for name in served.fields if name in arrays]
    if not wanted:
        raise RejectedUpload(
            f"model {served.reference} takes no single array: send an NPZ file with {', '.join(served.fields)}.",
            NOT_TAKEN,
        )
    return wanted[0]


def _value(text: str) -> Any:
    """A value that came as text: JSON where it is that."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return np.nan if found is None else found
