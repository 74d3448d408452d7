"""A small real lake with samples of every modality, a sweep and a model."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sensorium.catalog import Catalog
from sensorium.catalog.declaration import Source
from sensorium.catalog.fields import ScalarField
from sensorium.catalog.lineage import environment
from sensorium.catalog.models import ModelDraft
from sensorium.jobs.codecs import Picture
from sensorium.jobs.machine_quality import cells

METRICS = ("psnr_y", "ssim")
GRID = {"jpeg": (20, 60, 90), "webp": (20, 60, 90)}
WAVELENGTH = [float(value) for value in range(400, 1000, 20)]


def photograph(seed: int, height: int = 96, width: int = 128) -> np.ndarray[Any, Any]:
    """A picture [H, W, 3] with smooth and sharp parts."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 255 // width, y * 255 // height, (x + y) % 255], axis=-1).astype(np.uint8)
    top, left = (int(value) for value in random.integers(10, 40, 2))
    image[top : top + 30, left : left + 40] = random.integers(0, 255, 3)
    image[-24:] = random.integers(0, 255, (24, width, 3))
    return image


def cube(seed: int) -> np.ndarray[Any, Any]:
    """A cube [12, 16, 30] whose spectra tell their place: reflectance rises with x, and falls with wavelength by y."""
    y, x, band = np.mgrid[:12, :16, : len(WAVELENGTH)]
    return (0.2 + 0.04 * x + 0.1 * np.cos(band / 6 + y / 3) + 0.01 * seed).astype(np.float32)


def body(seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """A volume [20, 40, 48] in HU, air around an ellipsoid, and the mask of a ball in it."""
    z, y, x = np.mgrid[:20, :40, :48]
    inside = ((z - 10) / 9) ** 2 + ((y - 20) / 17) ** 2 + ((x - 24) / 21) ** 2 < 1
    ball = (z - 9) ** 2 * 4 + (y - 16) ** 2 + (x - 15 - seed) ** 2 < 36
    volume = np.where(ball, -850, np.where(inside, 40, -1000)).astype(np.int16)
    return volume, ball


def stream() -> np.ndarray[Any, Any]:
    """A WebM stream of 10 frames as bytes."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="webm") as container:
        track = container.add_stream("libvpx", rate=10)
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        for index in range(10):
            pixels = np.full((48, 64, 3), 20 * index, np.uint8)
            for packet in track.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in track.encode():
            container.mux(packet)
    return np.frombuffer(file.getvalue(), np.uint8)


def ring(count: int) -> np.ndarray[Any, Any]:
    """Poses [V, 4, 4] of cameras on a circle that look inwards."""
    poses = np.tile(np.eye(4), (count, 1, 1))
    for index, angle in enumerate(np.linspace(0, 2 * np.pi, count, endpoint=False)):
        ahead = -np.array([np.cos(angle), np.sin(angle), 0])
        down = np.array([0.0, 0, -1])
        poses[index, :3, :3] = np.stack([np.cross(down, ahead), down, ahead], axis=1)
        poses[index, :3, 3] = -3 * ahead
    return poses


def samples() -> Iterator[tuple[str, str, dict[str, Any], list[dict[str, Any]]]]:
    """Name, modality, attributes and samples of a data set for each modality."""
    random = np.random.default_rng(0)
    mask = np.zeros((96, 128), bool)
    mask[20:50, 30:70] = True
    pictures = [
        {
            "id": f"photo{n:02}",
            "image": photograph(n),
            "label": "cat" if n % 3 else "dog",
            "lens": 35.0 + n,
            "mask": mask,
        }
        for n in range(15)
    ]
    yield "photos", "image", {}, pictures
    pairs = [{"id": f"block{n}", "before": photograph(n), "after": photograph(n + 1), "change": mask} for n in range(2)]
    yield "blocks", "image_pair", {}, pairs
    yield "rooms", "panorama", {}, [{"id": "hall", "image": photograph(3, 128, 256)}]
    yield "leaves", "hyperspectral", {"wavelength": WAVELENGTH}, [{"id": f"leaf{n}", "cube": cube(n)} for n in range(2)]
    scans = [dict(zip(("volume", "mask"), body(n), strict=True)) | {"id": f"scan{n}"} for n in range(2)]
    attributes: dict[str, Any] = {"spacing": [2.5, 1.0, 1.0], "orientation": "RAS", "unit": "HU"}
    yield "chests", "volume", attributes, scans
    time = np.arange(16000) / 8000
    tone = (0.5 * np.sin(2 * np.pi * (300 + 200 * time) * time)).astype(np.float32)
    yield "voices", "audio", {"sampling_rate": 8000.0}, [{"id": "sweep", "audio": tone, "speaker": "A"}]
    eeg = (random.normal(size=(8, 60 * 250)).cumsum(axis=1) * 0.1 + random.normal(size=(8, 15000))).astype(np.float32)
    channels = ["Fp1", "Fp2", "C3", "C4", "P3", "P4", "O1", "O2"]
    yield "brains", "series", {"sampling_rate": 250.0, "channels": channels}, [{"id": "night", "signal": eeg}]
    times = np.sort(random.uniform(0, 48, 300))
    variables = random.integers(0, 3, 300)
    stays = [
        {"id": "stay1", "times": times, "variables": variables, "values": random.normal(80, 9, 300).astype(np.float32)}
    ]
    yield "stays", "series", {"variable_names": ["heart rate", "blood pressure", "<b>odd</b>"]}, stays
    frames = np.stack([photograph(n, 48, 64) for n in range(6)])
    yield (
        "clips",
        "video",
        {"frame_rate": 10.0},
        [{"id": "frames", "frames": frames}, {"id": "stream", "encoded": stream()}],
    )
    camera = np.tile(np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]), (8, 1, 1))
    views = np.stack([photograph(n, 48, 64) for n in range(8)])
    yield "garden", "scene", {}, [{"id": "gate", "images": views, "intrinsics": camera, "poses": ring(8)}]


def fill(catalog: Catalog) -> Catalog:
    """All of it."""
    for name, modality, attributes, rows in samples():
        about = {"description": f"Made-up samples of modality {modality}.", "licence": "CC0-1.0"}
        catalog.create(name, modality=modality, attributes=attributes, **about).append(
            rows, evolve=True, message="first"
        )
    catalog["photos"].update([{"id": "photo00", "label": "bird"}], message="a bird after all")
    catalog["photos"].tag("checked")
    add_sweep(catalog)
    draft = ModelDraft(
        name="water",
        system="water_pollutants",
        weights=safetensors(),
        configuration={},
        metrics={"test": {"accuracy": 0.9125}},
        sources=(Source("stays", catalog["stays"].version),),
        parameters=1234,
        environment=environment(),
    )
    catalog.save_model(draft)
    catalog.promote("water", "production")
    return catalog


def safetensors() -> bytes:
    """A file without tensors."""
    header = json.dumps({}).encode()
    return len(header).to_bytes(8, "little") + header


def add_sweep(catalog: Catalog, name: str = "photos_sweep") -> None:
    """Rows of a sweep over four photographs, as its workers write them."""
    measures = cells.Measures.open(METRICS)
    schema = cells.schema(measures)
    rows = []
    for number in range(4):
        image = photograph(number)
        plan = [
            cells.Cell(cells.content_hash(image), codec, quality)
            for codec, values in GRID.items()
            for quality in values
        ]
        subject = cells.Subject(f"photo{number:02}", [Picture.of(image)], {})
        rows += [result.row for result in cells.evaluate(subject, plan, measures)]
    rows.append(cells.failed(cells.Cell("other", "jpeg", 20), measures, OSError("gone"), image_id="lost").row)
    fields = [ScalarField(column.name, column.type) for column in schema if column.name != "id"]
    source = Source("photos", catalog["photos"].version)
    target = catalog.create(name, modality="table", fields=fields, sources=[source], description="A sweep.")
    target.append(rows, sources=[source])


def lake(folder: Path) -> Catalog:
    """A filled lake in ``folder``."""
    return fill(Catalog(folder))
