"""Answers as JSON and NPZ; requests as samples."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import numpy as np
import orjson
from fastapi import Response

__all__ = ["json_bytes", "json_response", "npz_bytes", "plain", "png_url"]

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z


def json_bytes(content: Any) -> bytes:
    """JSON; numbers that are not finite become null."""
    return orjson.dumps(content, default=plain, option=_OPTIONS)


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return Response(json_bytes(content), status, dict(headers or {}), "application/json")


def npz_bytes(fields: Mapping[str, Any]) -> bytes:
    """Arrays and scalars as an NPZ file; what NumPy can only pickle is left out."""
    arrays: dict[str, Any] = {}
    for name, value in fields.items():
        array = np.asarray(value)
        if array.dtype.kind != "O":
            arrays[name] = array
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def png_url(content: bytes) -> str:
    """A picture inside a document."""
    return "data:image/png;base64," + base64.b64encode(content).decode()


def plain(value: Any) -> Any:
    """What JSON knows of a value that it does not know itself."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        found = value.item()
        return None if isinstance(found, float) and not math.isfinite(found) else found
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, complex):
        return [value.real, value.imag]
    return str(value)
