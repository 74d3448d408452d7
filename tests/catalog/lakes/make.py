"""Make the tiny lake that stands for a format version: ``python tests/catalog/lakes/make.py tests/catalog/lakes/v1``.

Run once for each version, with the code of that version, and never again: what it made is what users have.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.catalog import Catalog


def image(number: int) -> np.ndarray:
    """[H, W, C] of uint8, of two heights."""
    return (np.arange((5 + number % 2) * 4 * 3).reshape(-1, 4, 3) * (number + 1) % 251).astype(np.uint8)


def sound(number: int) -> np.ndarray:
    """[T] of int16, of differing length."""
    return (np.arange(300 + 40 * number) * (number + 3) % 1009 - 500).astype(np.int16)


def photos() -> list[dict[str, Any]]:
    return [{"id": f"p{n}", "image": image(n), "label": "cat" if n % 2 else "dog", "score": n / 2} for n in range(6)]


def sounds() -> list[dict[str, Any]]:
    return [{"id": f"a{n}", "audio": sound(n), "sampling_rate": 8000.0} for n in range(4)]


def make(folder: Path) -> None:
    """Two data sets, stacked and flat payload, an update, a deletion, a tag, a field added later."""
    catalog = Catalog(folder)
    dataset = catalog.create("photos", modality="image", description="of the fixture", licence="CC0-1.0")
    dataset.append(photos()[:4], message="the first")
    dataset.append(photos()[4:])
    dataset.tag("whole")
    dataset.update([{"id": "p1", "label": "lynx"}])
    dataset.update([{"id": "p2", "weight": 2.5}], evolve=True)
    dataset.delete("id = 'p0'")
    catalog.create("sounds", modality="audio").append(sounds())


if __name__ == "__main__":
    make(Path(sys.argv[1]))
