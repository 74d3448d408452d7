"""Measures of masks against a brute-force transcription of their definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sensorium.jobs.training.overlap import MaskFit, mask_fit
from sensorium.platform.errors import InvalidSetting

SPACING = (5.0, 0.7, 1.3)


def _surface(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Voxels with a neighbour across a side that is outside."""
    found = []
    for place in map(tuple, np.argwhere(mask)):
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            other = list(place)
            other[axis] += step
            beyond = not 0 <= other[axis] < mask.shape[axis]
            if beyond or not mask[tuple(other)]:
                found.append(place)
                break
    return found


def _by_definition(one: np.ndarray, two: np.ndarray) -> MaskFit:
    a, b = _surface(one), _surface(two)

    def nearest(points: list[tuple[int, ...]], others: list[tuple[int, ...]]) -> list[float]:
        return [
            min(sum(((p - q) * s) ** 2 for p, q, s in zip(x, y, SPACING, strict=True)) ** 0.5 for y in others)
            for x in points
        ]

    there, back = nearest(a, b), nearest(b, a)
    common, union = int((one & two).sum()), int((one | two).sum())
    return MaskFit(
        2 * common / (one.sum() + two.sum()),
        common / union,
        max(there + back),
        max(np.percentile(there, 95), np.percentile(back, 95)),
        100 * abs(int(one.sum()) - int(two.sum())) / two.sum(),
    )


@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_the_definitions_say(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, two = rng.random((2, 5, 8, 7)) < 0.15 + 0.2 * seed
    found, expected = mask_fit(one, two, SPACING), _by_definition(one, two)
    np.testing.assert_allclose(list(vars(found).values()), list(vars(expected).values()), rtol=1e-12)


def test_a_box_moved_by_two_slices_is_two_spacings_away() -> None:
    one, two = np.zeros((2, 12, 9, 9), np.uint8)
    one[2:6, 2:7, 2:7] = 1
    two[4:8, 2:7, 2:7] = 7
    found = mask_fit(one, two, SPACING)
    assert found.hausdorff == pytest.approx(10.0)
    assert (found.dice, found.overlap, found.volume_difference) == (0.5, pytest.approx(1 / 3), 0.0)


def test_empty_masks() -> None:
    nothing, all_of_it = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)
    assert mask_fit(nothing, nothing, SPACING) == MaskFit(1.0, 1.0, 0.0, 0.0, 0.0)
    assert mask_fit(nothing, all_of_it, SPACING) == MaskFit(0.0, 0.0, np.inf, np.inf, 100.0)
    assert mask_fit(all_of_it, nothing, SPACING).volume_difference == np.inf


def test_masks_of_two_grids_are_refused() -> None:
    with pytest.raises(InvalidSetting, match="masks of one grid"):
        mask_fit(np.ones((2, 2)), np.ones((2, 3)), (1.0, 1.0))
