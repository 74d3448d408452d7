"""Floats that are not finite: samples hold none, so that they are refused, or replaced by a number that the user names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sensorium.catalog.importers._files import unreadable
from sensorium.platform.errors import InvalidSetting

__all__ = ["NAN_OPTION", "finite"]

NAN_OPTION = {"nan": "number to put in the place of values that are NaN or infinite (default: refuse the file)"}


def finite(path: Path, array: npt.NDArray[Any], options: Mapping[str, str]) -> npt.NDArray[Any]:
    """``array`` as it is, or a copy in which the option ``nan`` stands for what is not finite.

    Raises:
        InvalidSetting: the option is no finite number.
        UnreadableFile: there are such values, and no number for them.
    """
    text = options.get("nan")
    if text is not None and not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?", text):
        raise InvalidSetting(f"nan must be a finite number, what to put in the place of NaN; got {text!r}.")
    if array.dtype.kind != "f":
        return array
    wrong = ~np.isfinite(array)
    if not wrong.any():
        return array
    if text is None:
        place = tuple(int(index[0]) for index in np.nonzero(wrong))
        problem = f"{int(wrong.sum())} values are not finite, the first is {array[place]} at {place}"
        raise unreadable(path, problem, "Say what to put in their place with nan=VALUE.")
    return np.where(wrong, array.dtype.type(float(text)), array)
