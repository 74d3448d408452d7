"""360-degree panoramas in equirectangular projection: twice as wide as high, columns go round the horizon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from sensorium.catalog.modalities import _sheets, image
from sensorium.catalog.modality import Modality, Violation

__all__ = ["modality"]


def check(sample: Mapping[str, Any]) -> Iterator[Violation]:
    """The picture covers 360 by 180 degrees."""
    shape = np.asarray(sample.get("image")).shape
    if len(shape) == 3 and shape[1] != 2 * shape[0]:
        yield Violation(
            "image",
            f"an equirectangular panorama is exactly twice as wide as high; got {shape[1]} x {shape[0]} pixels",
            "Pad or resample it to 2:1; a partial panorama belongs in a data set of modality 'image'",
        )


modality = Modality(
    name="panorama",
    title="360-degree panoramas (equirectangular)",
    fields=image.FIELDS,
    check=check,
    preview=image.preview,
    sheet=_sheets.panorama,
    export=image.write,
)
