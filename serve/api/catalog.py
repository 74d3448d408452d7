"""Data sets to read: listings, samples, previews, files, queries."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from sensorium.catalog.fields import ArrayField
from sensorium.jobs.training.method import png
from sensorium.platform.errors import InvalidQuery, InvalidSetting, UserError
from sensorium.serve.api.encoding import json_response, npz_bytes
from sensorium.serve.queries import check_condition

if TYPE_CHECKING:
    from sensorium.catalog.dataset import Dataset
    from sensorium.catalog.sample import Sample

__all__ = ["Query", "router"]

router = APIRouter(prefix="/v1", tags=["catalog"])

_PAGE, _LARGEST_PAGE = 50, 500
#: of the arrays of a sample that is downloaded
_DOWNLOAD_BYTES = 1 << 30


class Query(BaseModel):
    """An SQL query."""

    query: str = Field(
        max_length=10_000, examples=["SELECT modality, count(*) AS n FROM photographs GROUP BY modality"]
    )
    limit: int = Field(1000, ge=1, le=10_000, description="rows, at most")


@router.get("/datasets")
def datasets(request: Request) -> Response:
    """The data sets of the lake."""
    return json_response(_catalog(request).datasets().to_dicts())


@router.get("/datasets/{name}")
def dataset(request: Request, name: str) -> Response:
    """One data set, `NAME` or `NAME@VERSION`: its fields, attributes, licence and history."""
    found = _dataset(request, name)
    declaration = found.declaration
    fields = [
        {
            "name": field.name,
            "kind": "array" if isinstance(field, ArrayField) else "scalar",
            "type": "/".join(field.dtypes or ()) if isinstance(field, ArrayField) else str(field.type),
            "dims": field.dims if isinstance(field, ArrayField) else None,
            "unit": field.unit,
            "description": field.description,
        }
        for field in declaration.fields.values()
    ]
    return json_response(
        {
            "name": found.name,
            "version": found.version,
            "modality": declaration.modality_name,
            "samples": len(found.select()),
            "description": declaration.description,
            "licence": declaration.licence,
            "attributes": declaration.attributes,
            "fields": fields,
            "history": found.history().to_dicts(),
        }
    )


@router.get("/datasets/{name}/samples")
def samples(request: Request, name: str, where: str = "", limit: int = _PAGE, offset: int = 0) -> Response:
    """Rows of a data set for which `where` (an SQL condition) holds, without their arrays."""
    if not 1 <= limit <= _LARGEST_PAGE or offset < 0:
        raise InvalidSetting(f"limit must be 1 to {_LARGEST_PAGE} and offset 0 or more; got {limit} and {offset}.")
    found = _dataset(request, name)
    if where:
        check_condition(where)
    scalars = [field.name for field in found.declaration.fields.values() if not isinstance(field, ArrayField)]
    selection = found.select(where or None, fields=scalars)
    rows = selection.frame().select("id", *(name for name in selection.fields if name in scalars))
    part = rows.slice(offset, limit).to_dicts()
    return json_response({"dataset": found.name, "version": found.version, "samples": rows.height, "rows": part})


@router.get("/datasets/{name}/samples/{identifier:path}/preview.png")
def preview(request: Request, name: str, identifier: str) -> Response:
    """A picture of a sample."""
    found = _dataset(request, name)
    draw = found.declaration.modality.preview
    if draw is None:
        raise UserError(f"samples of modality {found.declaration.modality_name!r} have no preview.")
    sample = _sample(found, identifier)
    return Response(png(lambda axes: draw(axes, sample)), media_type="image/png")


@router.get("/datasets/{name}/samples/{identifier:path}/download.npz")
def download(request: Request, name: str, identifier: str) -> Response:
    """A sample as an NPZ file: its arrays and scalars by name."""
    found = _dataset(request, name)
    sample = _sample(found, identifier)
    arrays = [field for field in sample if field != "id" and field in found.declaration.arrays]
    size = sum(sample.view(field).nbytes for field in arrays)
    if size > _DOWNLOAD_BYTES:
        raise UserError(f"sample {identifier!r} has {size >> 20} MB: read it with the catalog, or with catalog export.")
    headers = {"Content-Disposition": 'attachment; filename="sample.npz"'}
    # without its id, so that the file can be sent to a model as it is: an upload has none
    fields = {field: sample[field] for field in sample if field != "id"}
    return Response(npz_bytes(fields), 200, headers, "application/x-npz")


@router.get("/datasets/{name}/samples/{identifier:path}")
def sample(request: Request, name: str, identifier: str) -> Response:
    """The scalars of a sample, and shape and type of its arrays."""
    found = _dataset(request, name)
    return json_response(
        {"dataset": found.name, "version": found.version, **_summary(found, _sample(found, identifier))}
    )


@router.get("/datasets/{name}/lineage")
def lineage(request: Request, name: str) -> Response:
    """What a data set came from, and what was made of it."""
    return json_response(_catalog(request).lineage(name).to_dicts())


@router.post("/query")
async def query(request: Request, given: Query, format: str = "json") -> Response:  # noqa: A002
    """Run a bounded, read-only SQL SELECT over the sample tables; data sets are its tables."""
    found = await request.app.state.service.gateway.query(given.query, rows=given.limit)
    if format == "parquet":
        content = io.BytesIO()
        found.frame.write_parquet(content)
        return Response(content.getvalue(), media_type="application/vnd.apache.parquet")
    if format != "json":
        raise InvalidQuery(f"format is json or parquet; got {format!r:.20}.")
    rows = json.loads(found.frame.write_json())
    return json_response({"columns": found.frame.columns, "truncated": found.truncated, "rows": rows})


def _catalog(request: Request) -> Any:
    return request.app.state.service.gateway.catalog


def _dataset(request: Request, name: str) -> Dataset:
    found: Dataset = _catalog(request).dataset(name)
    return found


def _sample(found: Dataset, identifier: str) -> Sample:
    selected: Sample = found.select()[identifier]
    return selected


def _summary(found: Dataset, sample: Sample) -> dict[str, Any]:
    arrays = [name for name in sample if name in found.declaration.arrays]
    shapes = {name: {"shape": list(sample.view(name).shape), "dtype": sample.view(name).dtype.name} for name in arrays}
    return {"id": sample.id, **{name: sample[name] for name in sample if name not in ("id", *arrays)}, "arrays": shapes}
