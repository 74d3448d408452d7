"""Plain Zarr v3: one array per field where samples have one shape, else one array per sample; scalars in Parquet beside.

``data.zarr/FIELD`` is [N, ...], or a group of arrays ``000000``, ``000001`` …; sample ``i`` is row ``i`` of
``samples.parquet`` in either case. What a sample lacks is all fill values, and null in the column ``has_FIELD``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from sensorium.platform.progress import progress

if TYPE_CHECKING:
    from sensorium.catalog.selection import Selection

__all__ = ["write"]

#: bytes of a shard: as many samples as fit
_SHARD_BYTES = 32 << 20


def write(selection: Selection, folder: Path) -> int:
    """Write ``selection`` as ``data.zarr`` into ``folder``; the number of samples."""
    import zarr

    declaration = selection.declaration
    rows = selection.rows
    total = rows.height
    group = zarr.create_group(
        store=str(folder / "data.zarr"),
        attributes={
            "data_set": selection.name,
            "version": selection.version,
            "modality": declaration.modality_name,
            "attributes": dict(declaration.attributes),
        },
    )
    present: list[pl.Series] = []
    targets: dict[str, Any] = {}
    for name in (name for name in selection.fields if name in declaration.arrays):
        held = rows[name].struct.field("shape")
        forms = (
            rows.select(pl.col(name).struct.field("shape"), pl.col(name).struct.field("dtype")).drop_nulls().unique()
        )
        present.append((held.is_not_null()).alias(f"has_{name}"))
        if forms.height == 1:
            targets[name] = _stacked(group, name, total, tuple(forms["shape"][0]), np.dtype(forms["dtype"][0]))
        elif forms.height:
            targets[name] = group.create_group(name)
    with progress(f"export {selection.name}", total=total, unit="samples") as bar:
        for begin, samples in _blocks(selection, targets):
            for name, target in targets.items():
                _put(target, begin, [np.asarray(one[name]) if name in one else None for one in samples])
            bar.advance(len(samples))
    scalars = ["id", *(name for name in selection.fields if name in declaration.scalars)]
    frame = selection.frame().select(scalars).with_columns(present)
    frame.write_parquet(folder / "samples.parquet")
    return total


def _stacked(group: Any, name: str, total: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    size = max(1, int(np.prod(shape)) * dtype.itemsize)
    many = max(1, min(total, _SHARD_BYTES // size))
    return group.create_array(
        name, shape=(total, *shape), dtype=dtype, chunks=(1, *shape), shards=(many, *shape) if many > 1 else None
    )


def _blocks(selection: Selection, targets: dict[str, Any]) -> Any:
    """Samples in blocks that fill whole shards: a shard is written once."""
    step = min((target.shards[0] for target in targets.values() if getattr(target, "shards", None)), default=16)
    block: list[Any] = []
    begin = 0
    for sample in selection:
        block.append(sample)
        if len(block) == step:
            yield begin, block
            begin, block = begin + step, []
    if block:
        yield begin, block


def _put(target: Any, begin: int, arrays: list[Any]) -> None:
    if hasattr(target, "create_array"):  # a group: samples differ in shape
        for index, array in enumerate(arrays):
            if array is not None:
                made = target.create_array(f"{begin + index:06d}", shape=array.shape, dtype=array.dtype)
                made[...] = array
        return
    if all(array is not None for array in arrays):
        target[begin : begin + len(arrays)] = np.stack(arrays)
        return
    for index, array in enumerate(arrays):
        if array is not None:
            target[begin + index] = array
