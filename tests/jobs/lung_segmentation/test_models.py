"""The parts of Algorithm 1 against their definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage

from sensorium.jobs.lung_segmentation.appearance import (
    HIGHEST,
    LOWEST,
    appearances,
    densities,
    fit_mixture,
    histogram,
    lowest,
)
from sensorium.jobs.lung_segmentation.field import (
    Evidence,
    agreement,
    labelled,
    likelihoods,
    posteriors,
    potential,
    smoothed,
)
from sensorium.platform.errors import InvalidSample


def _drawn(seed: int = 0, count: int = 60_000) -> np.ndarray:
    """Values of a mixture with lung, ground glass, fat and muscle."""
    rng = np.random.default_rng(seed)
    parts = ((-860, 40, 0.25), (-600, 80, 0.05), (-90, 30, 0.3), (45, 25, 0.4))
    values = [rng.normal(mean, deviation, int(share * count)) for mean, deviation, share in parts]
    return np.clip(np.rint(np.concatenate(values)), LOWEST, HIGHEST).astype(np.int16)


def test_a_mixture_finds_the_gaussians_that_made_the_values() -> None:
    mixture = fit_mixture(*histogram(_drawn()), 8, 300)
    assert mixture.bic[len(mixture.weights)] == min(mixture.bic.values())
    assert mixture.weights.sum() == pytest.approx(1)
    lung, chest = mixture.primary
    assert mixture.means[lung] == pytest.approx(-860, abs=10)
    assert mixture.deviations[lung] == pytest.approx(40, abs=6)
    assert mixture.means[chest] == pytest.approx(45, abs=10)
    assert mixture.weights[mixture.lung].sum() == pytest.approx(0.30, abs=0.02)
    grid = np.arange(-3000.0, 3000.0)
    assert mixture.density(grid).sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(
        mixture.density(grid, mixture.lung) + mixture.density(grid, ~mixture.lung), mixture.density(grid)
    )


def test_each_round_of_em_raises_the_likelihood() -> None:
    centres, counts = histogram(_drawn(1))
    found = [
        counts @ np.log(fit_mixture(centres, counts, 4, rounds).density(centres)) for rounds in (1, 2, 4, 8, 16, 64)
    ]
    assert all(later >= earlier for earlier, later in itertools.pairwise(found))


def test_a_secondary_gaussian_goes_to_the_nearer_dominant_one() -> None:
    mixture = fit_mixture(*histogram(_drawn(2)), 8, 300)
    lung, chest = (mixture.means[one] for one in mixture.primary)
    np.testing.assert_array_equal(mixture.lung, abs(mixture.means - lung) < abs(mixture.means - chest))


@pytest.mark.parametrize("centre", [-860, 40])
def test_a_volume_without_lungs_or_without_a_chest_is_refused(centre: int) -> None:
    values = np.random.default_rng(0).normal(centre, 20, 5000)
    with pytest.raises(InvalidSample, match="shows no lungs in a chest"):
        fit_mixture(*histogram(np.rint(values).astype(np.int16)), 4, 50)


def test_the_ratio_of_densities_never_turns_beyond_the_dominant_means() -> None:
    mixture = fit_mixture(*histogram(_drawn()), 8, 300)
    lung, chest = densities(mixture)
    assert lung[0] > chest[0]
    assert lung[-1] < chest[-1]
    first = round(mixture.means[mixture.primary[0]]) - LOWEST
    assert np.ptp(lung[: first - 1]) == 0


def test_minimum_filters_are_those_of_scipy() -> None:
    volume = np.random.default_rng(0).integers(-1000, 500, (7, 9, 8)).astype(np.int16)
    own, small, large = appearances(volume, np.ones(volume.shape, bool))
    np.testing.assert_array_equal(own, volume)
    np.testing.assert_array_equal(small, ndimage.minimum_filter(volume, 3, mode="nearest"))
    np.testing.assert_array_equal(large, ndimage.minimum_filter(volume, 5, mode="nearest"))
    np.testing.assert_array_equal(lowest(volume, (0, 2, 1)), ndimage.minimum_filter(volume, (1, 5, 3), mode="nearest"))


def test_air_around_the_body_does_not_reach_into_it() -> None:
    volume = np.full((5, 9, 9), -1000, np.int16)
    body = np.zeros(volume.shape, bool)
    body[:, 2:7, 2:7] = True
    volume[body] = 40
    assert (appearances(volume, body)[2][body] == 40).all()


# -- the field ---------------------------------------------------------------------------------------------------------


def _evidence(seed: int = 0, shape: tuple[int, int, int] = (5, 7, 6)) -> tuple[Evidence, np.ndarray]:
    rng = np.random.default_rng(seed)
    seen = tuple(rng.integers(LOWEST, HIGHEST + 1, shape).astype(np.int16) for _ in range(3))
    tables = rng.uniform(1e-4, 1e-2, (3, 2, HIGHEST - LOWEST + 1)).astype(np.float32)
    body = rng.random(shape) < 0.8
    labels = np.where(body, rng.integers(1, 3, shape), 0).astype(np.uint8)
    return Evidence(seen, tables, body), labels


def _neighbours(labels: np.ndarray, place: tuple[int, ...]) -> list[int]:
    found = []
    for shift in itertools.product((-1, 0, 1), repeat=3):
        other = tuple(np.add(place, shift))
        if any(shift) and all(0 <= o < n for o, n in zip(other, labels.shape, strict=True)) and labels[other]:
            found.append(int(labels[other]))
    return found


def _mean_density(evidence: Evidence, place: tuple[int, ...], label: int) -> float:
    kinds = {2: 0, 1: 1}
    return float(
        np.mean([t[kinds[label], s[place] - LOWEST] for s, t in zip(evidence.seen, evidence.tables, strict=True)])
    )


def test_the_potential_is_that_of_equation_8() -> None:
    _, labels = _evidence()
    pairs = [(int(labels[p]), n) for p in map(tuple, np.argwhere(labels)) for n in _neighbours(labels, p)]
    share = np.mean([a == b for a, b in pairs])
    assert agreement(labels) == pytest.approx(share)
    assert potential(agreement(labels)) == pytest.approx(2**2 / (2 - 1) * (share - 1 / 2))
    assert potential(1.0) == 2
    assert agreement(np.zeros((2, 2, 2), np.uint8)) == 1


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.7])
def test_map_and_likelihood_are_those_of_equations_4_and_9(strength: float) -> None:
    evidence, labels = _evidence(1)
    new, found = smoothed(evidence, labels, strength), likelihoods(evidence, labels, strength)
    for place in map(tuple, np.argwhere(evidence.body)):
        energies = {
            label: sum(strength if label == other else -strength for other in _neighbours(labels, place))
            for label in (1, 2)
        }
        whole = np.logaddexp(*energies.values())
        joint = {
            label: np.log(_mean_density(evidence, place, label)) + energy - whole for label, energy in energies.items()
        }
        assert found[place] == pytest.approx(joint[int(labels[place])], rel=1e-5)
        if abs(joint[1] - joint[2]) > 1e-4:
            assert new[place] == max(joint, key=lambda label: joint[label])
    assert not found[~evidence.body].any()
    assert not new[~evidence.body].any()


def test_without_neighbours_the_greater_density_decides() -> None:
    evidence, _ = _evidence(2)
    for part in (evidence, evidence.only((0,)), evidence.only((1, 2))):
        found = labelled(part)
        for place in map(tuple, np.argwhere(part.body)):
            assert found[place] == (2 if _mean_density(part, place, 2) > _mean_density(part, place, 1) else 1)


def test_the_networks_channels_are_joint_probabilities() -> None:
    evidence, labels = _evidence(3)
    for place in (0, 2, 4):
        channels = posteriors(evidence, labels, 0.2, place)
        assert channels.shape == (6, *labels.shape[1:])
        for y, x in np.argwhere(labels[place]):
            near = _neighbours(labels, (place, y, x))
            prior = 1 / (1 + np.exp(-2 * 0.2 * sum(1 if one == 2 else -1 for one in near)))
            for number in range(3):
                lung, chest = evidence.tables[number][:, evidence.seen[number][place, y, x] - LOWEST]
                expected = lung * prior / (lung * prior + chest * (1 - prior))
                assert channels[number, y, x] == pytest.approx(expected, rel=1e-4)
        inside = labels[place] > 0
        np.testing.assert_allclose((channels[:3] + channels[3:])[:, inside], 1, rtol=1e-6)
        assert not channels[:, ~inside].any()
