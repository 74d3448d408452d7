"""What the declarations of several modalities share: groups of dtypes, and rules that more than one of them has."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from sensorium.catalog.fields import ArrayField
from sensorium.catalog.modality import Violation

__all__ = ["FLOATS", "INTEGERS", "PIXELS", "SAMPLES", "mark_field", "present", "rate_above_zero"]

INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
FLOATS = ("float32", "float64", "float16")

#: what cameras and scanners deliver
PIXELS = ("uint8", "uint16", "int16", *FLOATS)
#: what microphones, electrodes and sensors deliver
SAMPLES = ("float32", "float64", "int16", "int32")


def mark_field(name: str, dims: str, description: str, *, boolean: bool = True) -> ArrayField:
    """A field that marks the elements of a picture or volume; it shares their axes, so the lengths must agree."""
    dtypes = ("bool", *INTEGERS) if boolean else INTEGERS
    return ArrayField(name, dims, dtypes=dtypes, codec="blosc", description=description)


def present(sample: Mapping[str, Any], name: str) -> bool:
    """Whether the sample has a value for ``name``."""
    return sample.get(name) is not None


def rate_above_zero(sample: Mapping[str, Any], name: str) -> Iterator[Violation]:
    """A rate in Hz, where there is one, is above zero and finite."""
    value = sample.get(name)
    if value is not None and not (math.isfinite(value) and value > 0):
        yield Violation(name, f"a rate must be above 0 Hz and finite; got {value}", "Give the true rate in Hz")
