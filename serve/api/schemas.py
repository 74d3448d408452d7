"""The OpenAPI description of what FastAPI cannot see: bodies of predictions, typed by modality."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from fastapi import FastAPI

from sensorium.catalog.fields import ArrayField, Field, ScalarField
from sensorium.catalog.modality import GROUP, Modality
from sensorium.platform import plugins
from sensorium.serve.gateway import Gateway

__all__ = ["describe", "sample_schema"]

_PREDICT = "/v1/models/{reference}/predict"


def describe(application: FastAPI, gateway: Gateway) -> None:
    """Have the application's OpenAPI document name a schema for each modality that a model takes."""
    generate = application.openapi

    def openapi() -> dict[str, Any]:
        if application.openapi_schema is None:
            document = generate()
            _describe(document, sorted({system.modality for system in gateway.systems()}))
            application.openapi_schema = document
        return application.openapi_schema

    application.openapi = openapi  # type: ignore[method-assign]


def _describe(document: dict[str, Any], names: list[str]) -> None:
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    known = plugins.names(GROUP)
    for name in names:
        if name in known:
            schemas[_title(name)] = sample_schema(plugins.load(GROUP, name, Modality))
    one_of = [{"$ref": f"#/components/schemas/{_title(name)}"} for name in names if name in known]
    binary = {"schema": {"type": "string", "format": "binary"}}
    stored = {
        "type": "object",
        "title": "Samples of the lake",
        "required": ["dataset", "ids"],
        "properties": {"dataset": {"type": "string"}, "ids": {"type": "array", "items": {"type": "string"}}},
    }
    asked = {
        "oneOf": [
            {"type": "object", "required": ["sample"], "properties": {"sample": {"oneOf": one_of}}},
            {
                "type": "object",
                "required": ["samples"],
                "properties": {"samples": {"type": "array", "items": {"oneOf": one_of}}},
            },
            stored,
        ]
    }
    files = {"type": "object", "additionalProperties": {"type": "string", "format": "binary"}}
    document["paths"][_PREDICT]["post"]["requestBody"] = {
        "required": True,
        "content": {
            "application/json": {"schema": asked},
            "multipart/form-data": {"schema": files},
            "application/x-npy": binary,
            "application/x-npz": binary,
            "application/octet-stream": binary,
        },
    }


def sample_schema(modality: Modality) -> dict[str, Any]:
    """JSON schema of one sample of a modality; arrays as nested lists."""
    return {
        "type": "object",
        "title": modality.title,
        "properties": {field.name: _field(field) for field in modality.fields},
        "required": [field.name for field in modality.fields if field.required],
    }


def _field(field: Field) -> dict[str, Any]:
    description = ", ".join(filter(None, (field.description, f"in {field.unit}" if field.unit else "")))
    if isinstance(field, ArrayField):
        schema: dict[str, Any] = {"type": "number"}
        for _ in field.layouts[0] if field.layouts else ():
            schema = {"type": "array", "items": schema}
        return {**schema, "description": f"[{field.dims}] {'/'.join(field.dtypes or ())} {description}".strip()}
    return {**_scalar(field), "description": description}


def _scalar(field: ScalarField) -> dict[str, Any]:
    kind = field.type
    if pa.types.is_boolean(kind):
        return {"type": "boolean"}
    if pa.types.is_integer(kind):
        return {"type": "integer"}
    if pa.types.is_floating(kind):
        return {"type": "number"}
    if pa.types.is_list(kind):
        return {"type": "array", "items": {}}
    return {"type": "string"} if pa.types.is_string(kind) else {}


def _title(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_")) + "Sample"
