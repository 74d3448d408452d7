"""Wavelengths of the bands of a cube: in nanometres and increasing, the bands with them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.catalog.importers._files import unreadable
from sensorium.platform.errors import InvalidSetting

__all__ = ["UNIT_OPTION", "in_nanometres", "increasing"]

_log = logging.getLogger(__name__)

#: unit -> nanometres
_UNITS = {
    **dict.fromkeys(("nanometers", "nanometer", "nanometres", "nm"), 1.0),
    **dict.fromkeys(("micrometers", "micrometer", "micrometres", "microns", "um"), 1000.0),
}
#: what says nothing of the unit
_UNKNOWN = ("", "unknown")
#: no camera's wavelengths are all below this in nanometres, or reach it in micrometres
_LOWEST = 100.0

UNIT_OPTION = {
    "wavelength_unit": "nm or um, of wavelengths whose file does not say it (default: um where all are below 100, else nm)"
}


def in_nanometres(
    path: Path, values: npt.NDArray[np.float64], unit: str, options: Mapping[str, str]
) -> tuple[npt.NDArray[np.float64], float] | None:
    """Wavelengths in nm, and what they were multiplied by; None where ``unit`` is none of length, such as a number of a band.

    Raises:
        InvalidSetting: the option ``wavelength_unit`` is none.
        UnreadableFile: a wavelength is not finite or not above 0.
    """
    wanted = options.get("wavelength_unit")
    if wanted not in (None, "nm", "um"):
        raise InvalidSetting(f"wavelength_unit must be nm or um; got {wanted!r}.")
    name = unit.strip().lower()
    if name not in _UNITS and name not in _UNKNOWN:
        _log.warning("%s: its wavelengths are in %r, no unit of length; they are left out", path, unit)
        return None
    wrong = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if wrong.size:
        problem = f"the wavelength of band {wrong[0]} is {values[wrong[0]]}"
        raise unreadable(path, problem, "Repair the list of wavelengths.")
    if name in _UNKNOWN:
        name = wanted or ("um" if values.max() < _LOWEST else "nm")
    return values * _UNITS[name], _UNITS[name]


def increasing(path: Path, wavelength: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """The order of bands in which wavelengths increase; spectrometers that overlap, or run backwards, need one.

    Raises:
        UnreadableFile: two bands have the same wavelength.
    """
    order: npt.NDArray[Any] = np.argsort(wavelength, kind="stable")
    same = np.flatnonzero(np.diff(wavelength[order]) <= 0)
    if same.size:
        bands = sorted((int(order[same[0]]), int(order[same[0] + 1])))
        problem = f"bands {bands[0]} and {bands[1]} have the same wavelength {wavelength[bands[0]]} nm"
        raise unreadable(path, problem, "Repair the list of wavelengths, or leave one of the bands out.")
    if not np.array_equal(order, np.arange(len(order))):
        _log.info("%s: its bands are sorted by wavelength", path)
    return order
