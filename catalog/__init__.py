"""The lake: data sets as Delta tables of samples that point into immutable Zarr fragments.

>>> from sensorium.catalog import Catalog
>>> catalog = Catalog("./lake")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sensorium.catalog.dataset import Dataset
    from sensorium.catalog.fields import ArrayField, ScalarField
    from sensorium.catalog.lake import Catalog
    from sensorium.catalog.sample import Sample
    from sensorium.catalog.selection import Selection

__all__ = ["ArrayField", "Catalog", "Dataset", "Sample", "ScalarField", "Selection"]

_HOME = {
    "ArrayField": "fields",
    "Catalog": "lake",
    "Dataset": "dataset",
    "Sample": "sample",
    "ScalarField": "fields",
    "Selection": "selection",
}


def __getattr__(name: str) -> Any:
    """Import on first use: listing commands must not import Arrow, Polars and Zarr."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
