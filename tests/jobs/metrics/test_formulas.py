"""Metrics against slow transcriptions of their formulas, in plain loops on small pictures, and closed forms."""

import json
import math
import subprocess

import numpy as np
import pytest
import skimage.data
from pictures import DISTORTIONS, distort, noisy, picture
from scipy import ndimage, special

from sensorium.jobs import colour, subprocesses
from sensorium.jobs.image_metrics import (
    Metric,
    blockiness,
    edges,
    ffmpeg_pairs,
    niqe,
    nlpd,
    sam,
    scene_statistics,
    simple,
    sre,
    vmaf,
    xpsnr,
)

SMALL = picture("astronaut_256")[60:137, 90:171]  # 77 x 81, odd on purpose


def test_nlpd_by_loops() -> None:
    taps = (0.05, 0.25, 0.4, 0.25, 0.05)
    settings = [
        (0.0248, (0.1011, 0.1493, 0.1460, 0.1015)),
        (0.0185, (0.0757, 0.1986, 0.1846, 0.0837)),
        (0.0179, (0.0477, 0.2138, 0.2243, 0.0467)),
        (0.0191, (0, 0.2503, 0.2616, 0)),
        (0.0220, (0, 0.2598, 0.2552, 0)),
        (0.2782, (0, 0.2215, 0.0717, 0)),
    ]

    def low(plane: np.ndarray, gain: float) -> np.ndarray:
        for axis in (0, 1):
            plane = ndimage.correlate1d(plane, [gain * tap for tap in taps], axis=axis, mode="mirror")
        return plane

    def bands(plane: np.ndarray) -> list[np.ndarray]:
        out = []
        for _ in range(5):
            coarse = low(plane, 1)[::2, ::2]
            up = np.zeros(plane.shape)
            for row in range(coarse.shape[0]):
                for column in range(coarse.shape[1]):
                    up[2 * row, 2 * column] = coarse[row, column]
            out.append(plane - low(up, 2))
            plane = coarse
        return [*out, plane]

    def normal(band: np.ndarray, constant: float, weights: tuple[float, ...]) -> np.ndarray:
        above, left, right, below = weights
        kernel = np.array([[0, above, 0], [left, 0, right], [0, below, 0]])
        return band / (constant + ndimage.convolve(np.abs(band), kernel, mode="constant"))

    other = distort(SMALL, "noise")
    pyramids = [bands(colour.luma(image) / 255) for image in (SMALL, other)]
    distances = [
        math.sqrt(((normal(x, *setting) - normal(y, *setting)) ** 2).mean())
        for x, y, setting in zip(*pyramids, settings, strict=True)
    ]
    assert nlpd.metric.compute(SMALL, other) == pytest.approx(sum(distances) / 6, rel=1e-5)


@pytest.mark.parametrize("how", DISTORTIONS)
def test_spectral_angle_by_loops(how: str) -> None:
    other = distort(SMALL, how)
    angles = []
    for one, two in zip(SMALL.reshape(-1, 3).astype(float), other.reshape(-1, 3).astype(float), strict=True):
        norms = np.linalg.norm(one) * np.linalg.norm(two)
        if norms:
            angles.append(math.acos(min(1.0, float(one @ two) / norms)))
        else:
            angles.append(math.pi / 2 if one.any() or two.any() else 0.0)
    assert sam.metric.compute(SMALL, other) == pytest.approx(math.degrees(sum(angles) / len(angles)), abs=1e-4)


def test_spectral_angle_does_not_see_brightness_and_knows_its_extremes() -> None:
    colours = np.array([[[10, 20, 30], [255, 0, 0], [0, 0, 0], [0, 0, 0]]], np.uint8)
    others = np.array([[[20, 40, 60], [0, 255, 0], [0, 0, 0], [1, 1, 1]]], np.uint8)
    each = [sam.metric.compute(colours[:, [index]], others[:, [index]]) for index in range(4)]
    assert each == pytest.approx([0, 90, 0, 90], abs=1e-5)
    assert each[0] == 0


def test_sre_by_loops() -> None:
    other = distort(SMALL, "noise")
    ratios = []
    for channel in range(3):
        x, y = SMALL[..., channel].astype(float), other[..., channel].astype(float)
        ratios.append(10 * math.log10(x.mean() ** 2 / ((x - y) ** 2).mean()))
    assert sre.metric.compute(SMALL, other) == pytest.approx(sum(ratios) / 3, abs=1e-5)


def test_blockiness_by_loops() -> None:
    y = colour.luma(distort(SMALL, "blocks")).astype(int)
    sides = []
    for plane in (y, y.T):
        border, inside = [], []
        for row in range(1, len(plane)):
            steps = border if row % 8 == 0 else inside
            steps += [abs(plane[row, column] - plane[row - 1, column]) for column in range(plane.shape[1])]
        sides.append(sum(border) / len(border) - sum(inside) / len(inside))
    value = blockiness.metric.compute(SMALL, distort(SMALL, "blocks"))
    assert value == pytest.approx(sum(sides) / 2, abs=1e-9)
    assert value > 4 * abs(blockiness.metric.compute(SMALL, SMALL)) > 0


def test_edges_by_loops() -> None:
    """Two contours that are known, the second moved by two pixels and with a spur of its own."""
    first = np.zeros((40, 50, 3), np.uint8)
    first[10:30, 12:35] = 255
    moved = np.roll(first, (2, -1), axis=(0, 1))
    assert edges.metric.compute(first, moved) == 1.0
    assert edges.metric.compute(first, np.roll(first, (6, 0), axis=(0, 1))) < 0.8
    spur = first.copy()
    spur[5:8, 40:48] = 255
    cv2 = colour.opencv()
    masks = [cv2.Canny(colour.luma(image), 100, 200) > 0 for image in (first, spur)]
    best = 0.0
    for down in range(-2, 3):
        for right in range(-2, 3):
            best = max(best, loop_f1(*masks, down, right))
    assert 0.5 < best < 1
    assert edges.metric.compute(first, spur) == pytest.approx(best, abs=1e-12)


def loop_f1(reference: np.ndarray, distorted: np.ndarray, down: int, right: int) -> float:
    height, width = reference.shape
    overlap = [
        (row, column)
        for row in range(height)
        for column in range(width)
        if 0 <= row - down < height and 0 <= column - right < width
    ]

    def around(mask: np.ndarray, row: int, column: int) -> bool:
        return bool(mask[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2].any())

    there = [around(reference, row, column) for row, column in overlap if distorted[row - down, column - right]]
    needed = [around(distorted, row - down, column - right) for row, column in overlap if reference[row, column]]
    precision, recall = sum(there) / len(there), sum(needed) / len(needed)
    return 2 * precision * recall / (precision + recall)


def test_images_with_no_edge_have_one_or_none() -> None:
    flat = np.full((32, 32, 3), 77, np.uint8)
    square = flat.copy()
    square[8:20, 8:20] = 255
    assert [edges.metric.compute(*pair) for pair in ((flat, flat), (flat, square), (square, flat))] == [1, 0, 0]


def test_simple_measures_by_hand() -> None:
    image = np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8)  # rg 255, 0; yb 127.5, -255
    spread = math.hypot(127.5, 191.25)
    mean = math.hypot(127.5, -63.75)
    assert simple.colourfulness.compute(image, image) == pytest.approx(spread + 0.3 * mean, rel=1e-6)
    y = colour.luma(image)[0].astype(float)
    assert simple.brightness.compute(image, image) == y.mean()
    assert simple.total_variation.compute(image, image) == abs(y[1] - y[0]) / 2


@pytest.mark.parametrize("shape", [0.7, 1.0, 2.0, 4.0])
def test_distributions_are_recovered(shape: float) -> None:
    """Drawn from generalised Gaussians: with scale b the variance is b^2 G(3 / a) / G(1 / a)."""
    rng = np.random.default_rng(3)
    draws = rng.gamma(1 / shape, size=400_000) ** (1 / shape)
    left = rng.random(draws.size) < 0.25  # scales 1 and 3: as much more mass on the wider side
    samples = np.where(left, -draws, 3 * draws)[np.newaxis]
    fit = scene_statistics.fit_asymmetric(samples)
    assert fit.shape[0] == pytest.approx(shape, rel=0.03)
    assert (fit.beta_left[0], fit.beta_right[0]) == pytest.approx((1, 3), rel=0.03)
    expected = 2 * special.gamma(2 / shape) / math.sqrt(special.gamma(1 / shape) * special.gamma(3 / shape))
    variance = special.gamma(3 / shape) / special.gamma(1 / shape)
    assert fit.offset[0] == pytest.approx(expected / 2 * (3 - 1) * math.sqrt(variance), rel=0.05)
    even = np.where(rng.random(draws.size) < 0.5, -draws, draws)[np.newaxis]
    found, square = scene_statistics.fit_symmetric(even)
    assert found[0] == pytest.approx(shape, rel=0.03)
    assert square[0] == pytest.approx(variance, rel=0.02)


def test_contrast_is_normalised_as_by_loops() -> None:
    y = colour.luma(SMALL)[:20, :21].astype(float)
    offset = np.arange(-3, 4)
    window = np.exp(-(offset[:, np.newaxis] ** 2 + offset**2) / (2 * (7 / 6) ** 2))
    window /= window.sum()
    padded = np.pad(y, 3, mode="edge")
    expected = np.empty_like(y)
    for row in range(y.shape[0]):
        for column in range(y.shape[1]):
            part = padded[row : row + 7, column : column + 7]
            mean = (window * part).sum()
            deviation = math.sqrt((window * (part - mean) ** 2).sum())
            expected[row, column] = (y[row, column] - mean) / (deviation + 1)
    found, _ = scene_statistics.normalise(y.astype(np.float32), colour.opencv().BORDER_REPLICATE)
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("held_out", niqe.PICTURES)
def test_niqe_prefers_a_picture_it_has_not_seen_to_distorted_ones(
    held_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(niqe, "PICTURES", tuple(name for name in niqe.PICTURES if name != held_out))
    without = niqe._natural.__wrapped__()
    monkeypatch.setattr(niqe, "_natural", lambda: without)
    image = niqe._picture(held_out)
    natural = niqe.metric.compute(image, image)
    for how in ("noise", "blur"):
        assert niqe.metric.compute(image, distort(image, how)) > natural, how


def test_niqe_is_the_distance_of_two_normal_distributions() -> None:
    image = picture("astronaut_512")
    natural, own = niqe._natural(), niqe._features(image)[0]
    assert own.shape == (25, 36)
    difference = natural.mean - own.mean(axis=0)
    centred = own - own.mean(axis=0)
    pooled = (natural.covariance + centred.T @ centred / 24) / 2
    expected = math.sqrt(difference @ np.linalg.solve(pooled, difference))
    assert niqe.metric.compute(image, image) == pytest.approx(expected, rel=1e-4)


def test_vmaf_is_near_what_ffmpeg_makes_of_the_rgb_images(tmp_path: object) -> None:
    """Ffmpeg converts to luma itself, with a rounding of its own; a single frame has no motion either."""
    reference, other = picture("astronaut_256"), noisy(picture("astronaut_256"), 12)
    size = f"{reference.shape[1]}x{reference.shape[0]}"
    with subprocesses.memory_folder() as folder:
        for name, image in (("a", other), ("b", reference)):
            (folder / name).write_bytes(image.tobytes())
        stream = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-i"]
        convert = "format=yuv420p"
        graph = f"[0:v]{convert}[a];[1:v]{convert}[b];[a][b]libvmaf=log_fmt=json:log_path=log"
        command = [subprocesses.ffmpeg(), "-loglevel", "error", *stream, "a", *stream, "b", "-lavfi", graph]
        subprocess.run([*command, "-f", "null", "-"], check=True, cwd=folder)
        expected = json.loads((folder / "log").read_text())["frames"][0]["metrics"]["vmaf"]
    assert vmaf.metric.compute(reference, other) == pytest.approx(expected, abs=0.5)


def test_vmaf_of_identical_images_is_the_highest() -> None:
    image = picture("coffee_256")
    same, nearly = vmaf.metric.many(image, [image, noisy(image, 1)])
    assert 97 < same <= 100
    assert nearly < same


def test_unrelated_neighbours_do_not_change_a_vmaf() -> None:
    """A stream of other images would have motion, which takes VMAF to 100."""
    image = picture("astronaut_256")
    others = [picture("coffee_256"), noisy(image, 25), 255 - image, noisy(image, 25)]
    batch = vmaf.metric.many(image, others)
    assert batch == [vmaf.metric.compute(image, other) for other in others]
    assert batch[1] == batch[3] < 90


@pytest.mark.parametrize("metric", [vmaf.metric, xpsnr.metric], ids=lambda metric: metric.name)
def test_batches_of_any_size_are_the_same(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture("astronaut_256")
    others = [noisy(image, strength) for strength in (1, 9, 30)]
    together = metric.many(image, others)
    monkeypatch.setattr(ffmpeg_pairs, "_BATCH", 2 * image[..., 0].size)
    assert [len(batch) for batch in ffmpeg_pairs.batches(others)] == [2, 1]
    assert metric.many(image, others) == together


def test_clips_have_motion() -> None:
    image = picture("astronaut_256")
    moving = [np.roll(image, 6 * step, axis=1) for step in range(5)]
    worse = [noisy(frame, 25, seed) for seed, frame in enumerate(moving)]
    stills = [vmaf.metric.compute(*pair) for pair in zip(moving, worse, strict=True)]
    assert vmaf.metric.clip(moving, worse) > np.mean(stills) + 1
    assert xpsnr.metric.clip(moving, moving) == xpsnr.CAP
    assert xpsnr.metric.clip(moving, worse) < xpsnr.CAP


def test_xpsnr_by_loops() -> None:
    """An image of more than 640 x 480 pixels: below that the paper smooths the weights."""
    reference = skimage.data.stereo_motorcycle()[0]
    other = noisy(reference, 9)
    x, y = (colour.luma(image).astype(float) for image in (reference, other))
    high = ndimage.correlate(x, np.array([[-1, -2, -1], [-2, 12, -2], [-1, -2, -1]], float), mode="nearest")
    height, width = x.shape
    ratio = height * width / (3840 * 2160)
    side = 4 * int(32 * math.sqrt(ratio) + 0.5)
    rows, columns = -(-height // side), -(-width // side)
    weights, errors = np.empty(rows * columns), np.empty(rows * columns)
    for index in range(rows * columns):
        top, left = index // columns * side, index % columns * side
        bottom, right = min(height, top + side), min(width, left + side)
        inner = high[max(1, top) : min(height - 1, bottom), max(1, left) : min(width - 1, right)]
        weights[index] = 1 / max(4.0, float(np.abs(inner).mean()))
        errors[index] = ((x - y)[top:bottom, left:right] ** 2).sum()
    average = math.sqrt(16 * 2 ** (2 * 8 - 9) / math.sqrt(ratio))
    weighted = float((weights * errors).sum()) * average
    expected = 10 * math.log10(height * width * 255**2 / weighted)
    assert xpsnr.metric.compute(reference, other) == pytest.approx(expected, abs=0.02)
