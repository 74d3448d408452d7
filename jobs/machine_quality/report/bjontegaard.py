"""Bjontegaard's mean difference in rate, of one pair of curves and of many pairs at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["BDRate", "Hulls", "bd_rate", "bd_rate_many", "hulls", "monotone_integral", "pareto"]

#: Fewest points of a curve that :func:`bd_rate` takes, after dominated points are left out.
FEWEST_POINTS = 3


@dataclass(frozen=True)
class BDRate:
    """How much more or less rate one codec needs for the same quality.

    Attributes:
        percent: mean difference in rate; -50 is half the reference's rate. NaN where it cannot be told.
        overlap: the range of quality that both curves cover, as a part of the smaller of their two ranges; 0 to 1.
        reason: why ``percent`` is NaN; otherwise None.
    """

    percent: float
    overlap: float
    reason: str | None = None


def pareto(rate: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Indices of the points [N] that no other point beats, in order of rate.

    A point is beaten by one of no higher rate and no lower quality. What is left rises strictly in both: real curves do
    not always (x264 spends more bytes at QP 1 than on lossless coding).
    """
    order = np.lexsort((-quality, rate))
    before = np.concatenate([[-np.inf], np.maximum.accumulate(quality[order])[:-1]])
    kept: np.ndarray = order[quality[order] > before]
    return kept


def bd_rate(
    reference: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], *, min_overlap: float = 0.5
) -> BDRate:
    """Bjontegaard's mean difference in rate of ``test`` against ``reference``.

    G. Bjontegaard, "Calculation of average PSNR differences between RD-curves", ITU-T VCEG-M33, 2001. Log rate is a
    function of quality, interpolated by monotone piecewise cubics rather than by one cubic over all points, as in the
    common test conditions of the video groups since HEVC, and averaged over the range of quality that both cover.
    Points that others beat are left out first (:func:`pareto`).

    Args:
        reference: rates [N], greater than 0, and qualities [N], higher is better; points in any order.
        test: likewise.
        min_overlap: least ``overlap`` for an answer; below, a curve's end would speak for the whole.
    """
    curves = [_as_curve(*curve) for curve in (reference, test)]
    if min(len(quality) for quality, _ in curves) < FEWEST_POINTS:
        sizes = " and ".join(str(len(quality)) for quality, _ in curves)
        return BDRate(math.nan, 0.0, f"at least {FEWEST_POINTS} points a curve are needed; there are {sizes}")
    low = max(quality[0] for quality, _ in curves)
    high = min(quality[-1] for quality, _ in curves)
    overlap = max(0.0, float((high - low) / min(quality[-1] - quality[0] for quality, _ in curves)))
    if overlap <= 0 or overlap < min_overlap:
        return BDRate(
            math.nan, overlap, f"the curves share {overlap:.0%} of the shorter's range; needed {min_overlap:.0%}"
        )
    base, other = (float(monotone_integral(quality, log_rate, low, high)) for quality, log_rate in curves)
    return BDRate(100 * math.expm1((other - base) / (high - low)), overlap)


def _as_curve(rate: np.ndarray, quality: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quality, strictly rising, and natural logarithm of rate, of the points worth keeping."""
    found = hulls(np.asarray(rate, np.float64)[None], np.asarray(quality, np.float64)[None])
    kept = int(found.counts[0])
    return found.quality[0, :kept], found.log_rate[0, :kept]


@dataclass(frozen=True)
class Hulls:
    """What is left of S curves of up to K points when beaten points are left out.

    Attributes:
        quality: [S, K], strictly rising; the first ``counts`` of each line count, the rest is NaN.
        log_rate: [S, K], natural logarithm; likewise.
        counts: [S].
    """

    quality: np.ndarray
    log_rate: np.ndarray
    counts: np.ndarray


def hulls(rate: np.ndarray, quality: np.ndarray) -> Hulls:
    """:func:`pareto` of S curves [S, K] at once; points with a rate of 0, or that are not finite, do not count."""
    usable = (rate > 0) & np.isfinite(rate) & np.isfinite(quality)
    rate, quality = np.where(usable, rate, np.inf), np.where(usable, quality, -np.inf)
    order = np.lexsort((-quality, rate), axis=-1)
    rate, quality = np.take_along_axis(rate, order, -1), np.take_along_axis(quality, order, -1)
    best = np.maximum.accumulate(quality, axis=-1)
    before = np.concatenate([np.full((len(best), 1), -np.inf), best[:, :-1]], axis=-1)
    kept = quality > before
    front = np.argsort(~kept, axis=-1, kind="stable")
    counts = kept.sum(axis=-1)
    within = np.arange(rate.shape[1]) < counts[:, None]
    rate, quality = np.take_along_axis(rate, front, -1), np.take_along_axis(quality, front, -1)
    return Hulls(np.where(within, quality, np.nan), np.log(np.where(within, rate, np.nan)), counts)


def bd_rate_many(reference: Hulls, test: Hulls, *, min_overlap: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """:func:`bd_rate` of S pairs of curves: percent [S], NaN where it cannot be told, and overlap [S].

    Raises nothing for curves that cannot be compared; ask :func:`bd_rate` about one of them for the reason.
    """
    percent, overlap = np.full(len(reference.counts), np.nan), np.zeros(len(reference.counts))
    enough = np.flatnonzero(np.minimum(reference.counts, test.counts) >= FEWEST_POINTS)
    if not len(enough):
        return percent, overlap
    ends = [_ends(curves, enough) for curves in (reference, test)]
    low = np.maximum(ends[0][0], ends[1][0])
    high = np.minimum(ends[0][1], ends[1][1])
    shorter = np.minimum(ends[0][1] - ends[0][0], ends[1][1] - ends[1][0])
    overlap[enough] = np.maximum(0.0, (high - low) / shorter)
    told = (overlap[enough] > 0) & (overlap[enough] >= min_overlap)
    chosen, low, high = enough[told], low[told], high[told]
    base, other = (_integrals(curves, chosen, low, high) for curves in (reference, test))
    percent[chosen] = 100 * np.expm1((other - base) / (high - low))
    return percent, overlap


def _ends(curves: Hulls, lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest quality of some of the curves."""
    return curves.quality[lines, 0], curves.quality[lines, curves.counts[lines] - 1]


def _integrals(curves: Hulls, lines: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """:func:`monotone_integral` of some of the curves; those with as many points go together."""
    found = np.empty(len(lines))
    counts = curves.counts[lines]
    for count in np.unique(counts):
        here = counts == count
        x, y = curves.quality[lines[here], :count], curves.log_rate[lines[here], :count]
        found[here] = monotone_integral(x, y, low[here], high[here])
    return found


def _pchip_slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Derivatives [..., N] at the knots of the monotone cubic through (x, y), N >= 3.

    F. N. Fritsch, J. Butland, "A method for constructing local monotone piecewise cubic interpolants", SIAM J. Sci.
    Stat. Comput. 5(2), 1984: a weighted harmonic mean of the neighbouring slopes inside, 0 where they differ in sign,
    and at the ends the derivative of a parabola through three points, kept from overshooting.
    """
    step = np.diff(x)
    slope = np.diff(y) / step
    left, right = slope[..., :-1], slope[..., 1:]
    weight_left = 2 * step[..., 1:] + step[..., :-1]
    weight_right = step[..., 1:] + 2 * step[..., :-1]
    same = left * right > 0
    safe_left, safe_right = np.where(same, left, 1.0), np.where(same, right, 1.0)
    inner = np.where(same, (weight_left + weight_right) / (weight_left / safe_left + weight_right / safe_right), 0.0)
    first, last = _end_slope(step, slope), _end_slope(step[..., ::-1], slope[..., ::-1])
    return np.concatenate([first[..., None], inner, last[..., None]], axis=-1)


def _end_slope(step: np.ndarray, slope: np.ndarray) -> np.ndarray:
    near, far = step[..., 0], step[..., 1]
    derivative = ((2 * near + far) * slope[..., 0] - near * slope[..., 1]) / (near + far)
    turns = slope[..., 0] * slope[..., 1] <= 0
    overshoots = turns & (np.abs(derivative) > 3 * np.abs(slope[..., 0]))
    kept = np.where(overshoots, 3 * slope[..., 0], derivative)
    return np.where(derivative * slope[..., 0] <= 0, 0.0, kept)


def monotone_integral(x: np.ndarray, y: np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    """Integral [...] from ``low`` to ``high`` [...], both within ``x``, of the monotone cubic through (x, y) [..., N]."""
    step = np.diff(x)
    slope = np.diff(y) / step
    slopes = _pchip_slopes(x, y)
    start, end = slopes[..., :-1], slopes[..., 1:]
    square = (3 * slope - 2 * start - end) / step
    cube = (start + end - 2 * slope) / step**2
    # the part of each piece that counts, from its left knot
    first = np.clip(np.asarray(low)[..., None] - x[..., :-1], 0, step)
    last = np.clip(np.asarray(high)[..., None] - x[..., :-1], 0, step)

    def antiderivative(t: np.ndarray) -> np.ndarray:
        area: np.ndarray = t * (y[..., :-1] + t * (start / 2 + t * (square / 3 + t * cube / 4)))
        return area

    return np.asarray(np.sum(antiderivative(last) - antiderivative(first), axis=-1))
