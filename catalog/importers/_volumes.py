"""What importers of volumes share: masks beside their volumes, and the field that says where a volume lies in the patient."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyarrow as pa

from sensorium.catalog.fields import ScalarField
from sensorium.catalog.importer import Item, Source
from sensorium.catalog.importers import _folders, _metadata
from sensorium.catalog.importers._files import identifiers, unreadable, visible

__all__ = ["AFFINE", "items", "pairs"]

_MASK_END = re.compile(r"[-_.](mask|msk|seg|segm|segmentation|label|labels|roi)$", re.IGNORECASE)

AFFINE = ScalarField(
    "affine",
    pa.list_(pa.float64()),
    unit="mm",
    description="4 x 4 by rows: (x, y, z) indices to patient's RAS space",
)


def pairs(source: Source, suffixes: frozenset[str]) -> _folders.Pairs:
    """The volumes of a source, and the mask of each."""
    return _folders.pair(source, visible(source, suffixes), _MASK_END)


def items(source: Source, found: _folders.Pairs, known: _metadata.Known) -> Iterator[Item]:
    """A sample for each volume, its mask behind it.

    Raises:
        UnreadableFile: a volume has two masks.
    """
    for path, name in identifiers(source, known.rows).items():
        marks = found.marks.get(path, {})
        if len(marks) > 1:
            raise unreadable(path, f"has two masks, {marks['mask']} and {marks['labels']}", "Keep one.")
        yield Item(name, (path, *marks.values()), known.rows[path])
