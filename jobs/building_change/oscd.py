"""The two Sentinel-2 scenes of the Onera data set, cut into parts by rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from sensorium.catalog.dataset import Dataset
from sensorium.catalog.declaration import Source
from sensorium.catalog.fields import ScalarField
from sensorium.catalog.lake import Catalog
from sensorium.jobs.building_change.data import DATES, TRUTH

__all__ = ["DATASET", "parts"]

DATASET = "oscd_sentinel2"
#: where validation and test begin, as shares of the rows from the top
_VALIDATION, _TEST = 0.64, 0.80
#: columns of a block of the test part: units to draw intervals from
_BLOCK = 128


def parts(catalog: Catalog) -> Dataset:
    """The scenes of :data:`DATASET` by ``part``: ``train``, ``validation``, ``test``; made where they are not there yet."""
    source = catalog[DATASET]
    name = f"{DATASET}_parts"
    if name in catalog:
        return catalog[name]
    fields = [
        ScalarField(
            "part", pa.string(), description="of the experiment: upper rows are learnt from, the lowest tested"
        ),
        ScalarField("scene", pa.string(), description="that it was cut from"),
    ]
    made = catalog.create(
        name,
        modality="image_pair",
        fields=fields,
        description=f"{source.name}, cut into parts by rows",
        sources=[Source(source.name, source.version)],
    )
    with made.writer() as writer:
        for sample in source.select(fields=[*DATES, TRUTH]):
            for piece in _pieces(sample):
                writer.add(piece)
    return catalog[name]


def _pieces(sample: Any) -> Iterator[dict[str, Any]]:
    height, width = sample.view(TRUTH).shape
    validation, test = round(_VALIDATION * height), round(_TEST * height)
    cuts = {("train", ""): (slice(0, validation), slice(0, width)),
            ("validation", ""): (slice(validation, test), slice(0, width))}  # fmt: skip
    for number, begin in enumerate(range(0, max(1, width - _BLOCK // 2), _BLOCK)):
        end = begin + _BLOCK if begin + _BLOCK * 3 // 2 <= width else width  # the last block takes what is left
        cuts["test", f"_{number}"] = (slice(test, height), slice(begin, end))
    for (part, mark), window in cuts.items():
        arrays = {name: sample.view(name)[window] for name in (*DATES, TRUTH)}
        yield {"id": f"{sample.id}/{part}{mark}", "part": part, "scene": sample.id, **arrays}
