"""Metrics against independent implementations, closed forms and laws."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from sensorium.jobs import colour, image_metrics
from sensorium.jobs.image_metrics import Metric, psnr, ssim, vmaf, xpsnr
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


def test_the_metrics_are_installed_and_defined_apart() -> None:
    with_reference = {
        "edge_f1",
        "fsim",
        "gmsd",
        "haarpsi",
        "mdsi",
        "ms_ssim",
        "nlpd",
        "psnr",
        "psnr_y",
        "sam",
        "sre",
        "ssim",
    }
    with_reference |= {"vmaf", "vsi", "xpsnr"}
    without = {"blockiness", "brightness", "brisque", "colourfulness", "niqe_local", "total_variation"}
    assert with_reference | without <= set(NAMES)
    assert all(image_metrics.get(name).needs_reference == (name in with_reference) for name in with_reference | without)
    definitions = [image_metrics.get(name).definition for name in NAMES]
    assert len(set(definitions)) == len(definitions)


def test_importing_metrics_imports_nothing_heavy() -> None:
    folder = Path(image_metrics.__file__).parent
    modules = [f"sensorium.jobs.image_metrics.{file.stem}" for file in folder.glob("*.py") if file.stem != "__init__"]
    heavy = {"cv2", "imageio_ffmpeg", "scipy", "skimage", "sklearn", "torch"}
    program = f"import sys, {', '.join(modules)}; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def numbers(metric: Metric, reference: np.ndarray, distorted: np.ndarray) -> np.ndarray:
    """One or several, [N]."""
    values = np.atleast_1d(metric.compute(reference, distorted))
    assert values.shape == (len(metric.names),)
    return values


@pytest.mark.parametrize("name", NAMES)
def test_more_noise_is_worse(name: str) -> None:
    metric = image_metrics.get(name)
    if not metric.needs_reference:
        pytest.skip("what is better is not told by one image alone")
    values = [metric.compute(PHOTO, noisy(PHOTO, strength)) for strength in (0, 2, 8, 30)]
    assert values == sorted(values, reverse=metric.higher_is_better)
    assert len(set(values)) == 4


def test_a_value_depends_on_the_pair_alone(metric: Metric) -> None:
    """Not on pairs seen before, memory layout, or whether the arrays may be written to."""
    distorted = noisy(PHOTO, 5)
    first = numbers(metric, PHOTO, distorted)
    numbers(metric, distorted, noisy(PHOTO, 20))
    before = distorted.copy()
    distorted.flags.writeable = False
    assert np.array_equal(numbers(metric, np.asfortranarray(PHOTO), distorted), first)
    assert np.array_equal(distorted, before)


def test_a_value_does_not_depend_on_where_arrays_lie(metric: Metric) -> None:
    """Some functions of OpenCV round the last bit by the address that a result gets; temporary arrays get many here."""
    distorted = noisy(PHOTO, 5)
    first = numbers(metric, PHOTO, distorted)
    for offset in (1, 4, 16, 36):
        kept = np.empty(10_000 + 4096 * offset, np.uint8)  # shifts what is allocated next
        store = np.empty(distorted.size + offset, np.uint8)
        moved = store[offset:].reshape(distorted.shape)
        moved[:] = distorted
        assert np.array_equal(numbers(metric, PHOTO, moved), first)
        del kept


def test_many_are_the_same_as_one_by_one(metric: Metric) -> None:
    if metric.many is None:
        pytest.skip("compares one by one")
    others = [noisy(PHOTO, 3), PHOTO, 255 - PHOTO, noisy(PHOTO, 40), PHOTO[::-1], np.zeros_like(PHOTO), noisy(PHOTO, 3)]
    assert metric.many(PHOTO, others) == [metric.compute(PHOTO, other) for other in others]
    assert metric.many(PHOTO, []) == []


def test_identical_photographs_have_the_ideal_value(metric: Metric) -> None:
    if not metric.needs_reference:
        pytest.skip("has no ideal value")
    ideal = {"psnr": 100, "psnr_y": 100, "xpsnr": 100, "sre": 100, "gmsd": 0, "mdsi": 0, "nlpd": 0, "sam": 0}
    value = metric.compute(PHOTO, PHOTO.copy())
    if metric.name == "vmaf":  # no motion: the model does not reach 100
        assert 97 < value <= 100
    else:
        assert value == pytest.approx(ideal.get(metric.name, 1), abs=1e-6)


def test_flat_images_have_finite_values(metric: Metric) -> None:
    levels = [grey(level, 200, 200) for level in (0, 90, 255)]
    for one in levels:
        for other in [*levels, PHOTO[:200, :200]]:
            assert np.isfinite(numbers(metric, one, other)).all()
            assert np.isfinite(numbers(metric, other, one)).all()


def test_small_images_have_a_value_or_a_clear_refusal(metric: Metric) -> None:
    for side in (1, 2, 7, 8, 11, 16, 17, 31, 32, 64, 97):
        image = PHOTO[:side, : side + 3]
        try:
            values = numbers(metric, image, noisy(image, 10))
        except InvalidSample as error:
            assert f"got {side} x {side + 3}. Leave such images out." in str(error)  # noqa: PT017
        else:
            assert np.isfinite(values).all()


def test_clips_are_checked() -> None:
    for metric in (vmaf.metric, xpsnr.metric):
        assert metric.clip is not None
        with pytest.raises(InvalidSample, match="as many frames"):
            metric.clip([PHOTO], [PHOTO, PHOTO])
        with pytest.raises(InvalidSample, match="at least one"):
            metric.clip([], [])
        with pytest.raises(InvalidSample, match="one size"):
            metric.clip([PHOTO, PHOTO], [PHOTO, PHOTO[1:]])


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
