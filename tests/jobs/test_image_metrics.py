"""Metrics against independent implementations, closed forms and laws."""

import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from sensorium.jobs import colour, image_metrics
from sensorium.jobs.image_metrics import Metric, psnr, ssim
from sensorium.platform import plugins
from sensorium.platform.errors import InvalidSample

NAMES = plugins.names(image_metrics.GROUP)
PHOTO = skimage.data.astronaut()[:200, 150:400]

pairs = st.tuples(st.integers(11, 24), st.integers(11, 24)).flatmap(
    lambda size: st.tuples(*[npst.arrays(np.uint8, (*size, 3))] * 2)
)


@pytest.fixture(params=NAMES)
def metric(request: pytest.FixtureRequest) -> Metric:
    return image_metrics.get(request.param)


def noisy(image: np.ndarray, strength: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, strength, image.shape)
    return np.clip(image + noise, 0, 255).round().astype(np.uint8)


def oracle_ssim(one: np.ndarray, other: np.ndarray) -> float:
    value: float = structural_similarity(
        colour.luma(one),
        colour.luma(other),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    return value


def grey(level: int, height: int = 20, width: int = 30) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def test_the_first_metrics_are_installed_and_defined_apart() -> None:
    assert {"psnr", "psnr_y", "ssim"} <= set(NAMES)
    definitions = [image_metrics.get(name).definition for name in NAMES]
    assert len(set(definitions)) == len(definitions)


def test_more_noise_is_worse(metric: Metric) -> None:
    values = [metric.compute(PHOTO, noisy(PHOTO, strength)) for strength in (0, 2, 8, 30)]
    assert values == sorted(values, reverse=metric.higher_is_better)
    assert len(set(values)) == 4


def test_a_value_depends_on_the_pair_alone(metric: Metric) -> None:
    """Not on pairs seen before, memory layout, or whether the arrays may be written to."""
    distorted = noisy(PHOTO, 5)
    first = metric.compute(PHOTO, distorted)
    metric.compute(distorted, noisy(PHOTO, 20))
    before = distorted.copy()
    distorted.flags.writeable = False
    assert metric.compute(np.asfortranarray(PHOTO), distorted) == first
    assert np.array_equal(distorted, before)


@given(pairs)
@settings(max_examples=50, deadline=None)
def test_symmetric(pair: tuple[np.ndarray, np.ndarray]) -> None:
    for name in ("psnr", "psnr_y", "ssim"):
        compute = image_metrics.get(name).compute
        assert compute(*pair) == compute(*reversed(pair))


@given(npst.arrays(np.uint8, st.tuples(st.integers(11, 90), st.integers(11, 24), st.just(3))))
@settings(max_examples=50, deadline=None)
def test_identical_images_have_the_best_value(image: np.ndarray) -> None:
    assert psnr.rgb.compute(image, image.copy()) == psnr.CAP
    assert psnr.luma.compute(image, image.copy()) == psnr.CAP
    assert ssim.metric.compute(image, image.copy()) == 1.0


def test_sizes_and_kinds_are_checked(metric: Metric) -> None:
    with pytest.raises(InvalidSample, match="one size"):
        metric.compute(PHOTO, PHOTO[1:])
    with pytest.raises(InvalidSample, match="uint8"):
        metric.compute(PHOTO, PHOTO.astype(np.float32))
    with pytest.raises(InvalidSample, match="RGB"):
        metric.compute(PHOTO[..., 0], PHOTO[..., 0])


@pytest.mark.parametrize("strength", [1, 10, 60])
def test_psnr_agrees_with_scikit_image(strength: float) -> None:
    other = noisy(PHOTO, strength)
    assert psnr.rgb.compute(PHOTO, other) == pytest.approx(peak_signal_noise_ratio(PHOTO, other), abs=1e-9)
    expected = peak_signal_noise_ratio(colour.luma(PHOTO), colour.luma(other))
    assert psnr.luma.compute(PHOTO, other) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("difference", [1, 17, 255])
def test_psnr_of_a_constant_difference(difference: int) -> None:
    expected = 20 * np.log10(255 / difference)
    assert psnr.rgb.compute(grey(0), grey(difference)) == pytest.approx(expected, abs=1e-9)
    assert psnr.luma.compute(grey(0), grey(difference)) == pytest.approx(expected, abs=1e-9)


def test_psnr_ends_at_its_cap() -> None:
    """One sample of 1.2 million off by one: 48.13 + 60.8 dB without a cap."""
    image = grey(7, 640, 640)
    other = image.copy()
    other[3, 4, 1] += 1
    assert psnr.rgb.compute(image, other) == psnr.CAP
    other[:, :, 1] += 1
    assert psnr.rgb.compute(image, other) == pytest.approx(52.9, abs=0.01)


@pytest.mark.parametrize(
    "size", [(11, 11), (11, 200), (200, 11), (13, 64), (127, 250), (199, 249), (200, 250)], ids="{0[0]}x{0[1]}".format
)
@pytest.mark.parametrize("strength", [2, 40])
def test_ssim_agrees_with_scikit_image(size: tuple[int, int], strength: float) -> None:
    image = PHOTO[: size[0], : size[1]]
    other = noisy(image, strength)
    assert ssim.metric.compute(image, other) == pytest.approx(oracle_ssim(image, other), abs=1e-9)


def test_ssim_is_the_same_in_many_bands_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    other = noisy(PHOTO, 12)
    expected = oracle_ssim(PHOTO, other)
    for samples in (1, 250 * 12, 250 * 95, 250 * 190, 10**7):
        monkeypatch.setattr(ssim, "_BAND", samples)
        assert ssim.metric.compute(PHOTO, other) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("one", "other"), [(0, 255), (200, 255), (10, 11), (90, 90)])
def test_ssim_of_flat_images_is_the_brightness_term(one: int, other: int) -> None:
    c1 = (0.01 * 255) ** 2
    expected = (2 * one * other + c1) / (one**2 + other**2 + c1)
    assert ssim.metric.compute(grey(one), grey(other)) == pytest.approx(expected, abs=1e-9)


def test_ssim_of_a_negative_is_negative() -> None:
    rows = np.indices((40, 40)).sum(axis=0) % 2 * 100 + 78
    checks = np.repeat(rows[..., np.newaxis], 3, axis=2).astype(np.uint8)
    assert ssim.metric.compute(checks, 255 - checks) < -0.9


@pytest.mark.parametrize("size", [(10, 64), (64, 10), (1, 1)])
def test_ssim_needs_room_for_its_window(size: tuple[int, int]) -> None:
    image = PHOTO[: size[0], : size[1]]
    with pytest.raises(InvalidSample, match=f"11 x 11 pixels; got {size[0]} x {size[1]}"):
        ssim.metric.compute(image, image)
