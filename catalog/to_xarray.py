"""A selection as an xarray data set: dims, coordinates and units, read lazily through Dask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import xarray as xr

from sensorium.catalog import to_dask
from sensorium.catalog.fields import ArrayField
from sensorium.platform.errors import InvalidQuery
from sensorium.platform.storage import Storage

if TYPE_CHECKING:
    from sensorium.catalog.selection import Selection

__all__ = ["dataset"]


def dataset(selection: Selection, storage: Storage) -> xr.Dataset:
    """The chosen fields on the axis ``sample`` and their own axes.

    Raises:
        InvalidQuery: a chosen array has different shapes in different samples.
    """
    declaration, rows = selection.declaration, selection.rows
    variables: dict[str, Any] = {}
    coordinates: dict[str, Any] = {"sample": rows["id"].to_list()}
    for name in selection.fields:
        field = declaration.fields.get(name)
        if isinstance(field, ArrayField):
            kind = selection.kind(name)
            if kind is None:
                raise InvalidQuery(
                    f"data set {selection.name!r}, field {name!r}: samples have different shapes (or none), which xarray "
                    "cannot stack. Choose other fields or samples, or use dask(), which gives a list."
                )
            axes = field.axes(len(kind[0]))
            variables[name] = (
                ("sample", *axes), to_dask.arrays(storage, field, rows), {"units": field.unit} if field.unit else {},
            )  # fmt: skip
            for axis, source in field.coordinates.items():
                _add_coordinate(selection, rows, axis, source, coordinates)
        elif field is not None and not isinstance(rows[name].dtype, pl.Struct | pl.List):
            variables[name] = ("sample", rows[name].to_numpy(), {"units": field.unit} if field.unit else {})
    attributes = {
        "data_set": f"{selection.name}@{selection.version}",
        "description": declaration.description,
        "licence": declaration.licence,
    }
    return xr.Dataset(variables, coordinates, {key: value for key, value in attributes.items() if value})


def _add_coordinate(
    selection: Selection, rows: pl.DataFrame, axis: str, source: str, coordinates: dict[str, Any]
) -> None:
    """Positions along ``axis`` from the field ``source``, where all samples agree on them."""
    values = selection.declaration.attributes.get(source)
    if source in rows.columns:
        distinct = rows[source].drop_nulls().unique()
        values = distinct[0].to_list() if len(distinct) == 1 and distinct.dtype == pl.List else values
    if values is not None:
        field = selection.declaration.known(source)
        coordinates[source] = (axis, values, {"units": field.unit} if field is not None and field.unit else {})
