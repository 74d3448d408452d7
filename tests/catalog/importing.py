"""What tests of importers share: small files, all samples of a source, what a refusal says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import soundfile
from PIL import Image

from sensorium.catalog.importer import GROUP, Importer, Source
from sensorium.platform import plugins
from sensorium.platform.errors import UnreadableFile

SHARED = Path(__file__).parents[2] / "../shared/data"
#: two samples of series, a and b
LONG = "id,time,variable,value\nb,2,pulse,70\na,0.5,temp,37.2\na,0.25,pulse,80\nb,2,temp,36\n"


def importer(name: str) -> Importer:
    found: Importer = plugins.load(GROUP, name, Importer)
    return found


def imported(name: str, path: Path, **options: str) -> dict[str, dict[str, Any]]:
    """All samples that the importer makes of ``path``, by id."""
    found = importer(name)
    return {item.id: found.read(item, options) for item in found.plan(Source(path, options))}


def refusal(name: str, path: Path, **options: str) -> str:
    """What the importer says of a source that it cannot read."""
    with pytest.raises(UnreadableFile) as caught:
        imported(name, path, **options)
    return str(caught.value)


def shared(place: str) -> Path:
    """A place in the folder of real samples; skips the test where it is absent."""
    path = SHARED / place
    if not path.exists():
        pytest.skip(f"the folder of sample data {SHARED} has no {place}")
    return path


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def picture(path: Path, array: Any = None, **options: Any) -> Path:
    """Write ``array`` (noise [6, 9, 3] by default) as a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (6, 9, 3), np.uint8) if array is None else array
    Image.fromarray(np.asarray(pixels)).save(path, **options)
    return path


def sound(path: Path, array: Any = None, rate: int = 8000, subtype: str = "PCM_16") -> Path:
    """Write ``array`` ([T] or [T, C], a ramp by default) as a sound file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.arange(-50, 50, dtype=np.int16) if array is None else array
    soundfile.write(path, values, rate, subtype=subtype)
    return path


def volume(path: Path, array: Any = None, affine: Any = None) -> Path:
    """Write ``array`` ([X, Y, Z], counting by default) as a NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4) if array is None else array
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path
