"""The sweep against the CPU time that its codecs and metrics need, and its metrics against a peer."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sensorium.catalog import Catalog
from sensorium.jobs import codecs as coding
from sensorium.jobs import image_metrics
from sensorium.jobs.codecs import Picture
from sensorium.jobs.machine_quality.config import SweepConfig
from sensorium.jobs.machine_quality.sweep import plan_sweep, run_sweep
from sensorium.jobs.subprocesses import cpu_seconds, ffmpeg
from sensorium.platform import plugins
from sensorium.platform.session import ray_session
from sensorium.platform.settings import Settings
from sensorium.platform.tables import print_rows

#: distorted versions of one photograph for the peer
_PAIRS = 24
_SHARED = ("psnr", "ssim", "vmaf")


def photographs(count: int, size: int = 512) -> list[np.ndarray]:
    """Crops [size, size, 3] of photographs that ship inside scikit-image, all different."""
    from skimage import data

    wholes = [data.astronaut(), data.coffee(), data.rocket(), data.retina()]
    random = np.random.default_rng(0)
    crops = []
    for number in range(count):
        whole = wholes[number % len(wholes)]
        side = min(size, *whole.shape[:2])
        top, left = (int(random.integers(0, extent - side + 1)) for extent in whole.shape[:2])
        crop = whole[top : top + side, left : left + side]
        crops.append(np.roll(np.ascontiguousarray(crop), int(random.integers(1, side)), axis=1))
    return crops


_QUICK = {"jpeg": tuple(range(5, 96, 6)), "x264": tuple(range(16, 50, 3))}
_SLOW = {
    **_QUICK,
    "x265": tuple(range(20, 50, 3)),
    "rav1e": (60, 100, 140, 180, 220),
    "vvenc": (24, 32, 40, 48),
    "svt_av1": (20, 40, 60),
}
_FEW, _MANY = ("psnr", "psnr_y", "ssim"), ("psnr", "psnr_y", "ssim", "gmsd", "vmaf")


def sweep(folder: Path) -> None:
    """Wall time of sweeps on two cores, commits included, against the CPU time that their cells need."""
    cases = {"first of a session": (_QUICK, _FEW), "second": (_QUICK, _FEW), "slower codecs, VMAF": (_SLOW, _MANY)}
    _sweeps(folder, 60, cases)


def long_sweep(folder: Path) -> None:
    """A sweep of some ten minutes; only run where it is asked for by name."""
    _sweeps(folder, 480, {"slower codecs, VMAF": (_SLOW, _MANY)})


def _sweeps(
    folder: Path, images: int, cases: Mapping[str, tuple[Mapping[str, tuple[int, ...]], tuple[str, ...]]]
) -> None:
    catalog = Catalog(folder / "lake")
    catalog.create("images", modality="image").append(
        {"id": f"{number}", "image": image} for number, image in enumerate(photographs(images, 384))
    )
    rows = []
    with ray_session(Settings(cpus=2)):
        for name, (qualities, metrics) in cases.items():
            config = SweepConfig("images", f"run{len(rows)}", dict(qualities), metrics)
            plan = plan_sweep(catalog, config)
            held, started = _peak_mb(), time.perf_counter()
            report = run_sweep(catalog, plan)
            wall = time.perf_counter() - started
            over = 1e3 * (wall * 2 - report.cpu_seconds) / report.computed
            ratio = wall * 2 / report.cpu_seconds
            grown = f"{_peak_mb() - held:.0f}"
            rows.append([name, f"{report.computed}", f"{wall:.1f}", f"{ratio:.3f}", f"{over:.2f}", grown])
            started = time.perf_counter()
            run_sweep(catalog, plan_sweep(catalog, config))
            rows.append([f"{name}, again", "0", f"{time.perf_counter() - started:.2f}", "", "", ""])
    sys.stdout.write("\nsweep: wall × cores / CPU of coding and metrics on 2 cores (limit: 1)\n")
    heads = ["run", "cells", "wall, s", "ratio", "overhead a cell, ms of a core", "driver's peak grew, MB"]
    print_rows(heads, rows)


def _peak_mb() -> float:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def codecs(folder: Path) -> None:
    """CPU time of every codec and metric a megapixel, on photographs of 512 x 512 at the middle of each scale."""
    pictures = [Picture.of(image) for image in photographs(3)]
    area = sum(picture.rgb.shape[0] * picture.rgb.shape[1] for picture in pictures) / 1e6
    rows = []
    for name in plugins.names(coding.GROUP):
        codec = coding.get(name)
        quality = (codec.best + codec.worst) // 2
        codec.encode(pictures[0], quality)
        started = cpu_seconds()
        coded = [codec.encode(picture, quality) for picture in pictures]
        encoded_at = cpu_seconds()
        for one, picture in zip(coded, pictures, strict=True):
            codec.decode(one.data, picture.size)
        encode, decode = (encoded_at - started) / area, (cpu_seconds() - encoded_at) / area
        rows.append([name, f"{quality}", f"{encode:.3f}", f"{decode:.3f}", f"{encode + decode:.3f}", f"{codec.cost:g}"])
    sys.stdout.write("\ncodecs: CPU seconds a megapixel, and what a sweep assumes before it knows\n")
    print_rows(["codec", "quality", "encode", "decode", "together", "assumed"], rows)
    rows = []
    for name in plugins.names(image_metrics.GROUP):
        metric, picture = image_metrics.get(name), pictures[0].rgb
        distorted = [np.roll(picture, number + 1, axis=0) for number in range(6)]
        metric.compute(picture, distorted[0])
        started = cpu_seconds()
        for one in distorted:
            metric.compute(picture, one)
        single = (cpu_seconds() - started) / len(distorted) / picture.size * 3e6
        started = cpu_seconds()
        if metric.many is not None:
            metric.many(picture, distorted)
        together = (cpu_seconds() - started) / len(distorted) / picture.size * 3e6
        rows.append([name, f"{single:.4f}", f"{together:.4f}" if metric.many else "", f"{metric.cost:g}"])
    sys.stdout.write("\nmetrics: CPU seconds a megapixel, one pair at a time and six of one reference together\n")
    print_rows(["metric", "single", "together", "assumed"], rows)


def peer(folder: Path) -> None:
    """PSNR, SSIM and VMAF of pairs of stills: ours, and ffmpeg-quality-metrics, a process for each pair."""
    from ffmpeg_quality_metrics import FfmpegQualityMetrics
    from PIL import Image

    reference = photographs(1)[0]
    random = np.random.default_rng(1)
    distorted = [
        np.clip(reference + random.normal(0, 1 + number, reference.shape), 0, 255).astype(np.uint8)
        for number in range(_PAIRS)
    ]
    Image.fromarray(reference).save(folder / "reference.png")
    for number, picture in enumerate(distorted):
        Image.fromarray(picture).save(folder / f"{number}.png")
    (folder / "bin").mkdir()
    (folder / "bin" / "ffmpeg").symlink_to(ffmpeg())
    os.environ["PATH"] = f"{folder / 'bin'}:{os.environ['PATH']}"
    metrics = [image_metrics.get(name) for name in _SHARED]

    started = time.perf_counter()
    for metric in metrics:
        if metric.many is not None:
            metric.many(reference, distorted)
        else:
            for picture in distorted:
                metric.compute(reference, picture)
    ours = time.perf_counter() - started
    started = time.perf_counter()
    for number in range(_PAIRS):
        pair = FfmpegQualityMetrics(str(folder / "reference.png"), str(folder / f"{number}.png"), threads=1)
        pair.calculate(list(_SHARED))
    theirs = time.perf_counter() - started
    sys.stdout.write(f"\npeer: {', '.join(_SHARED)} of {_PAIRS} pairs of {reference.shape[0]}² stills\n")
    rows = [
        ["sensorium, one process", f"{_PAIRS / ours:.1f}", ""],
        ["ffmpeg-quality-metrics", f"{_PAIRS / theirs:.1f}", f"{theirs / ours:.2f}"],
    ]
    print_rows(["", "pairs/s", "ours / its"], rows)
