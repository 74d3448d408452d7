"""WebDataset: tar shards in which the files of a sample follow one another, under one key.

``KEY.FIELD.png`` (or ``.wav``, ``.npy`` …) for each array, ``KEY.json`` with the id and all scalars. Shards are written in
order, so that a reader may stream them; equal selections give equal bytes.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sensorium.catalog.exports.members import encoded, file_name
from sensorium.platform.progress import progress

if TYPE_CHECKING:
    from sensorium.catalog.sample import Sample
    from sensorium.catalog.selection import Selection

__all__ = ["write"]

#: a shard is closed when it has so many bytes
_SHARD_BYTES = 256 << 20


def write(selection: Selection, folder: Path) -> int:
    """Write ``selection`` as ``NAME-000000.tar`` and so on into ``folder``; the number of samples."""
    taken: set[str] = set()
    shard: tarfile.TarFile | None = None
    size = count = shards = 0
    with progress(f"export {selection.name}", total=len(selection), unit="samples") as bar:
        try:
            for sample in selection:
                if shard is None:
                    path = folder / f"{selection.name}-{shards:06d}.tar"
                    shard = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed when it is full
                    shards, size = shards + 1, 0
                key = file_name(sample.id, taken)
                for suffix, content in _files(sample):
                    member = tarfile.TarInfo(f"{key}.{suffix}")
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))
                    size += len(content)
                count += 1
                bar.advance()
                if size >= _SHARD_BYTES:
                    shard.close()
                    shard = None
        finally:
            if shard is not None:
                shard.close()
    return count


def _files(sample: Sample) -> Iterator[tuple[str, bytes]]:
    scalars: dict[str, Any] = {"id": sample.id}
    for name in sample:
        value = sample[name]
        if isinstance(value, np.ndarray):
            suffix, content = encoded(name, value, sample)
            yield f"{name}.{suffix}", content
        elif name != "id" and value is not None:
            scalars[name] = value
    yield "json", json.dumps(scalars, ensure_ascii=False, default=str, sort_keys=True).encode()
