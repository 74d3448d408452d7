"""Small simulated volumes, sounds and series, written as the files that users have.

They show formats and the catalog, not physics: nothing is measured on them. Every sample carries ``simulated = true``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.platform.optional import require

__all__ = ["monitor_files", "phantom_files", "sound_files", "vital_sign_files"]

_SEED = 20_260_101
_RATE = 16_000
_HU_AIR, _HU_LUNG, _HU_TISSUE, _HU_BONE = -1000.0, -850.0, 40.0, 700.0


def phantom_files(folder: Path, count: int = 3) -> Path:
    """Chest phantoms as NIfTI in HU, each with a mask of its lungs: ellipsoids with noise, 48 × 96 × 112 voxels."""
    nibabel = require("nibabel", "write the demo's volumes")
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(_SEED)
    rows = []
    for index in range(count):
        volume, lungs = _phantom(random)
        affine = np.diag([3.0, 3.0, 5.0, 1.0])  # x, y, z in mm
        for name, array in ((f"phantom_{index}", volume), (f"phantom_{index}_mask", lungs)):
            image = nibabel.Nifti1Image(array.transpose(2, 1, 0), affine)
            image.header.set_xyzt_units("mm")
            nibabel.save(image, folder / f"{name}.nii.gz")
        rows.append({"file": f"phantom_{index}.nii.gz", "simulated": "true"})
    return _with_metadata(folder, rows)


def _phantom(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A chest in HU, int16 [Z, Y, X], and its lungs, uint8."""
    shape = (48, 96, 112)
    # y grows to the front, so the spine lies at negative y
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, size, dtype=np.float32) for size in shape), indexing="ij")
    size = random.uniform(0.9, 1.05)
    body = (x / 0.85) ** 2 + (y / 0.7) ** 2 < size
    lungs = np.zeros(shape, bool)
    for side in (-1, 1):
        centre = 0.38 * side + random.normal(0, 0.02)
        lungs |= ((x - centre) / 0.27) ** 2 + ((y - 0.05) / 0.42) ** 2 + (z / 0.85) ** 2 < size
    spine = (x / 0.1) ** 2 + ((y + 0.5) / 0.1) ** 2 < 1
    volume = np.where(body, _HU_TISSUE, _HU_AIR)
    volume = np.where(lungs & body, _HU_LUNG, volume)
    volume = np.where(spine & body, _HU_BONE, volume) + random.normal(0, 25, shape)
    return np.clip(volume, -1024, 3071).astype(np.int16), (lungs & body & ~spine).astype(np.uint8)


def sound_files(folder: Path, per_kind: int = 3) -> Path:
    """Chirps, chords, pulses and noise as mono 16-bit WAV at 16 kHz, 0.5 to 2 s."""
    soundfile = require("soundfile", "write the demo's sounds")
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(_SEED + 1)
    rows = []
    for kind in ("chirp", "chord", "noise", "pulses"):
        for index in range(per_kind):
            time = np.arange(int(_RATE * random.uniform(0.5, 2.0))) / _RATE
            wave = _sound(kind, time, random) * np.minimum(1, np.minimum(time, time[-1] - time) / 0.01)
            name = f"{kind}_{index}.wav"
            soundfile.write(folder / name, (0.5 * wave * 32767).astype(np.int16), _RATE, subtype="PCM_16")
            rows.append({"file": name, "kind": kind, "simulated": "true"})
    return _with_metadata(folder, rows)


def _sound(kind: str, time: np.ndarray, random: np.random.Generator) -> Any:
    """A sound in [−1, 1] [T]."""
    base = random.uniform(150, 600)
    if kind == "chirp":
        return np.sin(2 * np.pi * (base * time + base * time**2))
    if kind == "chord":
        return np.mean([np.sin(2 * np.pi * base * ratio * time) for ratio in (1, 5 / 4, 3 / 2)], axis=0)
    if kind == "noise":
        return np.clip(random.normal(0, 0.3, time.size), -1, 1)
    return np.exp(-((time * 4) % 1) * 20) * np.sin(2 * np.pi * base * time)


def vital_sign_files(folder: Path, count: int = 40) -> Path:
    """Irregular vital signs of a stay, long-form CSV: id, time (h), variable, value; and an outcome per stay."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(_SEED + 2)
    usual = {
        "HR": (85, 12),
        "MAP": (80, 10),
        "Temp": (37.0, 0.5),
        "RespRate": (18, 4),
        "Glucose": (130, 35),
        "Lactate": (1.8, 0.9),
    }
    rows: list[dict[str, Any]] = []
    outcomes = []
    for index in range(count):
        severity = random.normal()
        for variable, (mean, spread) in usual.items():
            times = np.sort(random.uniform(0, 48, random.integers(3, 40)))
            values = mean + spread * (0.5 * severity + random.normal(0, 0.7, times.size))
            rows += [
                {
                    "id": f"stay_{index:03d}",
                    "time": f"{time:.3f}",
                    "variable": variable,
                    "value": f"{max(value, 0.1):.2f}",
                }
                for time, value in zip(times, values, strict=True)
            ]
        outcomes.append(
            {"id": f"stay_{index:03d}", "outcome": int(severity + random.normal(0, 0.5) > 1), "simulated": "true"}
        )
    rows.sort(key=lambda row: (row["id"], float(row["time"])))
    _write_csv(folder / "vital_signs.csv", rows)
    return _with_metadata(folder, outcomes)


def monitor_files(folder: Path, count: int = 6) -> Path:
    """Regular four-channel recordings at 128 Hz, 10 s, one CSV each: sums of rhythms and noise, in µV."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(_SEED + 3)
    time = np.arange(1280) / 128
    rows = []
    for index in range(count):
        eyes = ("open", "closed")[index % 2]
        alpha = 30.0 if eyes == "closed" else 8.0
        channels = {
            name: alpha * np.sin(2 * np.pi * 10 * time + random.uniform(0, 6)) + random.normal(0, 6, time.size)
            for name in ("O1", "O2", "Fz", "Cz")
        }
        name = f"recording_{index}.csv"
        columns = {
            "time": [f"{moment:.7f}" for moment in time],
            **{k: [f"{v:.3f}" for v in c] for k, c in channels.items()},
        }
        _write_csv(folder / name, [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])
        rows.append({"file": name, "eyes": eyes, "simulated": "true"})
    return _with_metadata(folder, rows)


def _with_metadata(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    _write_csv(folder / "metadata.csv", rows)
    return folder


def _write_csv(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    rows = list(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
