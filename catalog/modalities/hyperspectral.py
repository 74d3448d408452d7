"""Imaging spectroscopy: a spectrum per pixel, as raw counts or as reflectance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sensorium.catalog.fields import ArrayField, ScalarField
from sensorium.catalog.modalities import _drawing, _sheets
from sensorium.catalog.modalities._declare import FLOATS, INTEGERS, present
from sensorium.catalog.modality import Modality, Violation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["modality"]

_FIELDS = (
    ArrayField(
        "cube",
        "H W L",
        dtypes=(*INTEGERS, *FLOATS),
        required=True,
        coordinates={"L": "wavelength"},
        description="digital numbers (integers), or radiance or reflectance (floats)",
    ),
    ScalarField(
        "wavelength",
        pa.list_(pa.float64()),
        unit="nm",
        per_dataset=True,
        dims="L",
        description="centre of each band, increasing",
    ),
)


def check(sample: Mapping[str, Any]) -> Iterator[Violation]:
    """Wavelengths are positive and increase; that there is one per band follows from the shared axis L."""
    if not present(sample, "wavelength"):
        return
    wavelength = np.asarray(sample["wavelength"], dtype=np.float64)
    bad = np.flatnonzero(~(np.isfinite(wavelength) & (wavelength > 0)))
    if bad.size:
        yield Violation(
            "wavelength",
            f"wavelengths must be above 0 nm and finite; got {wavelength[bad[0]]} at band {bad[0]}",
            "Give the centres of the bands in nanometres",
        )
        return
    falls = np.flatnonzero(np.diff(wavelength) <= 0)
    if falls.size:
        band = int(falls[0])
        yield Violation(
            "wavelength",
            f"wavelengths must increase; got {wavelength[band]} nm at band {band}, then {wavelength[band + 1]} nm",
            "Sort the bands of cube and wavelength together",
        )


def preview(axes: Axes, sample: Mapping[str, Any]) -> None:
    """Draw a composite of the bands nearest to 640, 550 and 460 nm, or of three evenly spread, each stretched."""
    cube = _drawing.thin(np.asarray(sample["cube"]))
    bands = _drawing.nearest_bands(sample.get("wavelength"), cube.shape[2])
    axes.imshow(_drawing.stretch(cube[..., bands]), interpolation="nearest")
    axes.set_axis_off()


def steps(sample: Mapping[str, Any]) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """Bands in grey, each between its percentiles 2 and 98; at most 120 of them, evenly spread."""
    cube = np.asarray(sample["cube"])
    wavelength = sample.get("wavelength")
    for band in _sheets.evenly(cube.shape[2], 120):
        grey = (_drawing.stretch(_drawing.thin(cube[..., band : band + 1])) * 255 + 0.5).astype(np.uint8)
        caption = f"band {band}" if wavelength is None else f"band {band}, {float(wavelength[band]):.1f} nm"
        yield caption, np.repeat(grey, 3, axis=2)


modality = Modality(
    name="hyperspectral",
    title="hyperspectral cubes",
    fields=_FIELDS,
    check=check,
    preview=preview,
    sheet=_sheets.composite,
    steps=steps,
)
