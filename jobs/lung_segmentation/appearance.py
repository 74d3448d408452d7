"""Appearances of a volume, and the linear combination of Gaussians (LCG) that models the histogram of each.

Paper, Sections 2.1 and 2.3. Densities are in HU, and so per HU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorium.platform.errors import InvalidSample

__all__ = ["HIGHEST", "LOWEST", "Mixture", "appearances", "densities", "fit_mixture", "fitted", "histogram", "lowest"]

#: what is looked at: air, and everything up to bone; beyond, values count as these
LOWEST, HIGHEST = -1024, 600
#: below it a mode is of the lungs, above of the chest: HU are absolute, so that the two are known apart beforehand
_CUT = -400.0
_BIN = 4.0
#: a Gaussian narrower than a few bins would fit a spike, such as values that a scanner clipped
_NARROWEST = 8.0
#: EM has converged when the mean log-likelihood of a voxel rises by less
_CONVERGED = 1e-7


@dataclass(frozen=True)
class Mixture:
    """A fitted LCG (Eq. 5).

    Attributes:
        weights, means, deviations: float64 [K], of the Gaussians by ascending mean; weights sum to 1, the others in HU.
        lung: bool [K], which of them belong to the lungs (Eq. 6).
        primary: numbers of the dominant Gaussians of lung and chest.
        bic: of every K that was tried, by K; the lowest was taken.
    """

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    deviations: NDArray[np.float64]
    lung: NDArray[np.bool_]
    primary: tuple[int, int]
    bic: dict[int, float]

    def density(self, values: NDArray[Any], components: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Density at values [...] in HU, of some Gaussians or all, with their weights."""
        chosen = np.ones(len(self.weights), bool) if components is None else components
        found = _weighted(np.asarray(values, np.float64).ravel(), self)[chosen].sum(axis=0)
        return np.asarray(found.reshape(np.shape(values)))


def lowest(volume: NDArray[Any], radii: tuple[int, int, int]) -> NDArray[Any]:
    """Minimum of each box of 2 r + 1 voxels along each axis [Z, Y, X]; beyond the border is nothing."""
    found = volume
    for axis, radius in enumerate(radii):
        for _ in range(radius):
            wider = found.copy()
            front, back = [slice(None)] * 3, [slice(None)] * 3
            front[axis], back[axis] = slice(1, None), slice(None, -1)
            np.minimum(wider[tuple(front)], found[tuple(back)], out=wider[tuple(front)])
            np.minimum(wider[tuple(back)], found[tuple(front)], out=wider[tuple(back)])
            found = wider
    return found


def appearances(hu: NDArray[np.int16], body: NDArray[np.bool_]) -> tuple[NDArray[np.int16], ...]:
    """The volume and its minimum filters of 3 and 5 (Section 2.1), int16 [Z, Y, X] within the limits of this module.

    What is outside the body counts as dense: otherwise the skin would become lung.
    """
    own = np.where(body, np.clip(hu, LOWEST, HIGHEST), np.int16(HIGHEST))
    small = lowest(own, (1, 1, 1))
    return own, small, lowest(small, (1, 1, 1))  # a minimum of 3 of a minimum of 3 is one of 5


def histogram(values: NDArray[np.int16]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres of bins [B] in HU and the voxels in each; what lies at or above the highest value is left out."""
    counts = np.bincount(values.ravel().astype(np.int64) - LOWEST, minlength=HIGHEST - LOWEST + 1)[: HIGHEST - LOWEST]
    binned = counts.reshape(-1, int(_BIN)).sum(axis=1)
    return LOWEST + _BIN * (np.arange(binned.size) + 0.5) - 0.5, binned.astype(np.float64)


def fit_mixture(centres: NDArray[np.float64], counts: NDArray[np.float64], most: int, iterations: int) -> Mixture:
    """The LCG of a histogram: expectation maximisation for each number of Gaussians from 2 on, the best by BIC.

    Args:
        centres: of the bins [B], HU.
        counts: of voxels in the bins [B].
        most: Gaussians.
        iterations: at most, for each number.

    Raises:
        InvalidSample: no mode is as light as lung, or none as dense as the chest.
    """
    total = counts.sum()
    known = np.flatnonzero(counts)
    if not known.size:
        raise InvalidSample("no voxel of the body lies in the range of soft tissue and air.")
    found: dict[int, Mixture] = {}
    bic: dict[int, float] = {}
    for number in range(2, most + 1):
        mixture, likelihood = _maximised(centres, counts, number, iterations)
        bic[number] = float(-2 * likelihood + (3 * number - 1) * np.log(total))
        if mixture.lung.any() and not mixture.lung.all():
            found[number] = mixture
    if not found:
        raise InvalidSample(
            f"no Gaussian of the histogram is on both sides of {_CUT:g} HU: the volume shows no lungs in a chest. "
            "Give a chest CT in HU."
        )
    best = found[min(found, key=lambda number: bic[number])]
    return _classified(best, bic)


def _weighted(values: NDArray[np.float64], mixture: Mixture) -> NDArray[np.float64]:
    """Densities of the Gaussians with their weights [K, N]."""
    scaled = (values - mixture.means[:, np.newaxis]) / mixture.deviations[:, np.newaxis]
    heights = mixture.weights / (mixture.deviations * np.sqrt(2 * np.pi))
    return np.asarray(heights[:, np.newaxis] * np.exp(-0.5 * scaled**2))


def _maximised(
    centres: NDArray[np.float64], counts: NDArray[np.float64], number: int, iterations: int
) -> tuple[Mixture, float]:
    """Expectation maximisation from Gaussians spread evenly over the values; and the log-likelihood."""
    share = np.cumsum(counts) / counts.sum()
    low, high = centres[np.searchsorted(share, (0.002, 0.998))]
    step = max((high - low) / number, _NARROWEST)
    mixture = _mixture(np.full(number, 1 / number), low + step * (np.arange(number) + 0.5), np.full(number, step / 2))
    before = -np.inf
    for _ in range(iterations):
        joint = _weighted(centres, mixture)  # [K, B]
        whole = np.maximum(joint.sum(axis=0), 1e-300)
        now = float(counts @ np.log(whole))
        if now - before < _CONVERGED * counts.sum():
            break
        before = now
        held = joint / whole * counts
        mass = np.maximum(held.sum(axis=1), 1e-9)
        means = held @ centres / mass
        spread = (held * (centres - means[:, np.newaxis]) ** 2).sum(axis=1) / mass
        mixture = _mixture(mass / mass.sum(), means, np.maximum(np.sqrt(spread), _NARROWEST))
    return mixture, float(counts @ np.log(np.maximum(_weighted(centres, mixture).sum(axis=0), 1e-300)))


def _mixture(weights: NDArray[np.float64], means: NDArray[np.float64], deviations: NDArray[np.float64]) -> Mixture:
    return Mixture(weights, means, deviations, means < _CUT, (0, 0), {})


def _classified(mixture: Mixture, bic: dict[int, float]) -> Mixture:
    """Name the dominant Gaussian of each side, and give each of the others to the dominant one with the nearer mean."""
    order = np.argsort(mixture.means, kind="stable")
    weights, means, deviations = (one[order] for one in (mixture.weights, mixture.means, mixture.deviations))
    below = means < _CUT
    lung = int(np.argmax(np.where(below, weights, -1)))
    chest = int(np.argmax(np.where(below, -1, weights)))
    nearer = np.abs(means - means[lung]) < np.abs(means - means[chest])
    return Mixture(weights, means, deviations, nearer, (lung, chest), bic)


def densities(mixture: Mixture) -> NDArray[np.float32]:
    """p(h | lung) and p(h | chest) of Eq. 6 for every whole HU from the lowest to the highest value, float32 [2, V].

    Beyond the two dominant means they stay what they are there: else a wide Gaussian of one class would win far out in the tail
    of a narrow one of the other, and the lightest voxels would be chest.
    """
    lung, chest = mixture.primary
    values = np.clip(np.arange(LOWEST, HIGHEST + 1, dtype=np.float64), mixture.means[lung], mixture.means[chest])
    both = np.stack([mixture.density(values, mixture.lung), mixture.density(values, ~mixture.lung)])
    return np.maximum(both, 1e-30).astype(np.float32)


def fitted(seen: NDArray[np.int16], body: NDArray[np.bool_], most: int, iterations: int) -> Mixture:
    """The LCG of an appearance [Z, Y, X] within the body.

    Raises:
        InvalidSample: see :func:`fit_mixture`.
    """
    return fit_mixture(*histogram(seen[body]), most, iterations)
