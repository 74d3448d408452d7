"""The conversion between RGB and 4:2:0 planes against its formula and against other implementations."""

import numpy as np
import pytest
import simplejpeg
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from sensorium.jobs import colour
from sensorium.jobs.codecs import _av
from sensorium.platform.errors import InvalidSample

#: JFIF 1.02, unrounded: rows give Y, Cb, Cr.
FORWARD = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])

small_images = npst.arrays(np.uint8, st.tuples(st.integers(1, 23), st.integers(1, 17), st.just(3)))
small_grey = npst.arrays(np.uint8, st.tuples(st.integers(1, 23), st.integers(1, 17)))


def flat(red: int, green: int, blue: int, height: int = 4, width: int = 6) -> np.ndarray:
    return np.full((height, width, 3), (red, green, blue), np.uint8)


@given(small_grey)
@settings(deadline=None)
def test_grey_comes_back_exactly(grey: np.ndarray) -> None:
    image = np.repeat(grey[..., np.newaxis], 3, axis=2)
    planes = colour.to_planes(image)
    assert np.array_equal(planes.y, grey)
    assert (planes.cb == 128).all()
    assert (planes.cr == 128).all()
    assert np.array_equal(colour.to_rgb(planes), image)


@pytest.mark.parametrize(
    ("rgb", "ycc"),
    [
        ((255, 0, 0), (76, 85, 255)),
        ((0, 255, 0), (150, 44, 21)),
        ((0, 0, 255), (29, 255, 107)),
        ((255, 255, 0), (226, 0, 149)),
        ((0, 255, 255), (179, 171, 0)),
        ((255, 0, 255), (105, 212, 235)),
        ((255, 255, 255), (255, 128, 128)),
        ((0, 0, 0), (0, 128, 128)),
    ],
)
def test_primaries(rgb: tuple[int, int, int], ycc: tuple[int, int, int]) -> None:
    planes = colour.to_planes(flat(*rgb))
    assert tuple(int(plane[0, 0]) for plane in planes) == pytest.approx(ycc, abs=1)
    assert np.abs(colour.to_rgb(planes).astype(int) - rgb).max() <= 2


@given(small_images)
@settings(max_examples=200, deadline=None)
def test_planes_are_the_formula_rounded_once(image: np.ndarray) -> None:
    height, width = image.shape[:2]
    planes = colour.to_planes(image)
    assert planes.y.shape == (height, width)
    assert planes.cb.shape == planes.cr.shape == ((height + 1) // 2, (width + 1) // 2)

    even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge").astype(float)
    exact = even @ FORWARD.T
    means = exact.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2, 3).mean(axis=(1, 3)) + 128
    assert np.abs(planes.y - exact[:height, :width, 0]).max() < 0.51
    # pure red and pure blue would round to 256
    assert np.abs(planes.cb - means[..., 1]).max() < 0.51
    assert np.abs(planes.cr - means[..., 2]).max() < 0.51


@given(small_images)
@settings(deadline=None)
def test_flat_blocks_come_back_within_two_levels(colours: np.ndarray) -> None:
    for red, green, blue in colours.reshape(-1, 3)[:8]:
        image = flat(red, green, blue)
        assert np.abs(colour.to_rgb(colour.to_planes(image)).astype(int) - image).max() <= 2


@pytest.mark.parametrize(("height", "width"), [(64, 96), (63, 95), (64, 95)])
def test_smooth_colour_comes_back_within_three_levels(height: int, width: int) -> None:
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.stack([40 + rows, 60 + columns, 200 - rows - columns // 2], axis=-1).astype(np.uint8)
    difference = np.abs(colour.to_rgb(colour.to_planes(image)).astype(int) - image)
    assert difference[2:-2, 2:-2].max() <= 2
    assert difference.max() <= 3


def test_luma_survives_the_way_back_where_nothing_is_clipped() -> None:
    planes = colour.to_planes(skimage.data.coffee()[100:229, 200:361])
    back = colour.to_rgb(planes)
    inside = ((back > 0) & (back < 255)).all(axis=2)
    difference = np.abs(colour.luma(back).astype(int) - planes.y)[inside]
    assert inside.mean() > 0.5
    assert difference.max() <= 1
    assert (difference == 0).mean() > 0.99


def test_agrees_with_pillow() -> None:
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, (64, 64, 3), np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    planes = colour.to_planes(image)
    other = np.asarray(Image.fromarray(image).convert("YCbCr")).astype(int)
    assert np.abs(planes.y - other[..., 0]).max() <= 1
    assert np.abs(planes.cb - other[::2, ::2, 1]).max() <= 1
    assert np.abs(planes.cr - other[::2, ::2, 2]).max() <= 1


@pytest.mark.parametrize("size", [(120, 160), (119, 161)])
def test_way_back_agrees_with_libjpeg(size: tuple[int, int]) -> None:
    """Libjpeg has its own siting, interpolation and matrix; the two decoders' inverse DCTs differ by 1."""
    planes = colour.to_planes(skimage.data.coffee()[: size[0], 100 : 100 + size[1]])
    data = simplejpeg.encode_jpeg_yuv_planes(*planes, quality=95)
    ours = colour.to_rgb(_av.decode("mjpeg", data, size)).astype(int)
    theirs = simplejpeg.decode_jpeg(data, fastdct=False, fastupsample=False)
    assert np.abs(ours - theirs).max() <= 4
    assert np.abs(ours - theirs).mean() < 0.5


def test_same_bytes_for_any_memory_layout() -> None:
    image = skimage.data.astronaut()[:40, :60]
    mirrored = image[:, ::-1]
    copied = np.ascontiguousarray(mirrored)
    copied.flags.writeable = False
    for one, other in zip(colour.to_planes(mirrored), colour.to_planes(copied), strict=True):
        assert np.array_equal(one, other)


def test_opencv_keeps_to_the_calling_thread() -> None:
    assert colour.opencv().getNumThreads() == 1


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((4, 4, 3)),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_anything_but_rgb8_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(InvalidSample, match=r"\[H, W, 3\], uint8"):
        colour.to_planes(wrong)


def test_planes_that_do_not_belong_together_are_refused() -> None:
    y, half = np.zeros((5, 4), np.uint8), np.zeros((2, 2), np.uint8)
    with pytest.raises(InvalidSample, match="must be 3 x 2"):
        colour.to_rgb(colour.Planes(y, half, half))
