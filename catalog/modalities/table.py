"""Results without arrays: the rows of a sweep, an evaluation or a survey."""

from __future__ import annotations

from sensorium.catalog.modality import Modality

__all__ = ["modality"]

modality = Modality(name="table", title="rows of scalars, without arrays", fields=())
