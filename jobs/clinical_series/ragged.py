"""Batches of irregular series without padding and without imputation, and the statistics that scale them.

Legend: B samples, K variables, N observations in the batch, S = B·K series, V visits. A *series* is what one sample has of
one variable; a *visit* is a time at which a sample has one observation or more. Times are in hours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sensorium.platform.errors import InvalidSample, InvalidSetting

__all__ = ["RaggedBatch", "collate", "fit_statistics", "static_vector"]

Statistics = Mapping[str, Sequence[float]]

#: values kept per variable to take quantiles from
_KEPT = 20_000
#: interquartile range of a normal distribution of standard deviation 1
_IQR = 1.349


@dataclass(frozen=True)
class RaggedBatch:
    """Observations of B samples in one row, series after series, each in the order of time.

    Attributes:
        samples, variables: B and K.
        times: [N] float32, hours.
        values: [N] float32, scaled.
        series: [N] int64, sample·K + variable; never decreasing.
        offsets: [B·K + 1] int64, where each series begins; the last is N.
        visit: [N] int64, index of the observation's visit.
        visit_times: [V] float32, hours; sample after sample, rising within each.
        visit_offsets: [B + 1] int64, where the visits of each sample begin; the last is V.
        statics: [B, F] float32, scaled, NaN where missing; F may be 0.
    """

    samples: int
    variables: int
    times: torch.Tensor
    values: torch.Tensor
    series: torch.Tensor
    offsets: torch.Tensor
    visit: torch.Tensor
    visit_times: torch.Tensor
    visit_offsets: torch.Tensor
    statics: torch.Tensor

    @property
    def counts(self) -> torch.Tensor:
        """[B·K] int64, observations of each series."""
        return self.offsets.diff()

    @property
    def variable(self) -> torch.Tensor:
        """[N] int64, the variable of each observation."""
        return self.series % self.variables

    def take(self, samples: torch.Tensor) -> RaggedBatch:
        """The batch of the samples at these places [b] int64, in that order: as if they were collated alone."""
        series = (samples[:, None] * self.variables + torch.arange(self.variables, device=samples.device)).flatten()
        offsets, rows = _gathered(self.offsets, series)
        visit_offsets, visits = _gathered(self.visit_offsets, samples)
        counts = offsets.diff()
        owner = torch.repeat_interleave(torch.arange(len(series), device=samples.device), counts, output_size=len(rows))
        # a visit keeps its place among those of its sample
        moved = (visit_offsets[:-1] - self.visit_offsets[samples])[owner // self.variables]
        return RaggedBatch(
            len(samples),
            self.variables,
            times=self.times[rows],
            values=self.values[rows],
            series=owner,
            offsets=offsets,
            visit=self.visit[rows] + moved,
            visit_times=self.visit_times[visits],
            visit_offsets=visit_offsets,
            statics=self.statics[samples],
        )

    def to(self, device: torch.device | str) -> RaggedBatch:
        """The batch on ``device``."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(
            self, **{k: v.to(device, non_blocking=True) for k, v in tensors.items() if isinstance(v, torch.Tensor)}
        )


def _gathered(offsets: torch.Tensor, groups: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """New offsets [g + 1] of the chosen ``groups`` of a row, and where their elements are in it."""
    start = offsets[groups]
    lengths = offsets[groups + 1] - start
    new = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    total = int(new[-1])
    shifts = torch.repeat_interleave(start - new[:-1], lengths, output_size=total)
    return new, shifts + torch.arange(total, device=offsets.device)


def collate(
    samples: Sequence[Mapping[str, Any]],
    variables: int,
    statistics: Statistics | None = None,
    statics: Sequence[str] = (),
    hidden: Sequence[int] = (),
) -> RaggedBatch:
    """A batch from samples with ``times`` [n] (hours), ``variables`` [n], ``values`` [n] and perhaps scalars.

    Args:
        samples: of the catalog, or any such mappings.
        variables: K; indices are below it.
        statistics: of :func:`fit_statistics`, to scale by; None leaves values and statics as they are.
        statics: names of scalars that become static features, see :func:`static_vector`.
        hidden: variables all of whose observations are concealed (section 5.4: the same for all samples).

    Raises:
        InvalidSample: the arrays of a sample differ in length, hold what is not finite, or an index is beyond K.
    """
    times, values = _joined(samples, "times"), _joined(samples, "values")
    variable = _joined(samples, "variables").astype(np.int64)
    lengths = np.array([len(sample["times"]) for sample in samples], dtype=np.int64)
    _check(samples, times, variable, values, variables)
    owner = np.repeat(np.arange(len(samples)), lengths)
    features = (
        np.stack([static_vector(sample, statics) for sample in samples]) if samples else np.empty((0, len(statics)))
    )
    if len(hidden):
        kept = ~np.isin(variable, np.asarray(hidden, dtype=np.int64))
        times, variable, values, owner = times[kept], variable[kept], values[kept], owner[kept]
    if statistics is not None:
        values = _scaled(values, np.asarray(statistics["centre"])[variable], np.asarray(statistics["scale"])[variable])
        if len(statics):
            features = _scaled(
                features, np.asarray(statistics["static_centre"]), np.asarray(statistics["static_scale"])
            )

    order = np.lexsort((times, owner))  # by sample, then time; stable
    times, variable, values, owner = times[order], variable[order], values[order], owner[order]
    new = np.ones(len(times), dtype=bool)
    new[1:] = (np.diff(times) != 0) | (np.diff(owner) != 0)
    visit = np.cumsum(new) - 1
    series = owner * variables + variable
    order = np.argsort(series, kind="stable")
    return RaggedBatch(
        len(samples),
        variables,
        times=_tensor(times[order], torch.float32),
        values=_tensor(values[order], torch.float32),
        series=_tensor(series[order], torch.int64),
        offsets=_tensor(_offsets(series, len(samples) * variables), torch.int64),
        visit=_tensor(visit[order], torch.int64),
        visit_times=_tensor(times[new], torch.float32),
        visit_offsets=_tensor(_offsets(owner[new], len(samples)), torch.int64),
        statics=_tensor(features, torch.float32),
    )


def _joined(samples: Sequence[Mapping[str, Any]], name: str) -> npt.NDArray[np.float64]:
    parts = [np.asarray(sample[name], dtype=np.float64) for sample in samples]
    return np.concatenate(parts) if parts else np.empty(0)


def _check(
    samples: Sequence[Mapping[str, Any]], times: npt.NDArray[Any], variable: npt.NDArray[Any], values: Any, count: int
) -> None:
    for sample in samples:
        lengths = {name: len(sample[name]) for name in ("times", "variables", "values")}
        if len(set(lengths.values())) > 1:
            raise InvalidSample(f"sample {sample.get('id')!r}: times, variables and values must agree; got {lengths}.")
    if variable.size and not (variable.min() >= 0 and variable.max() < count):
        raise InvalidSample(
            f"variables must be indices from 0 to {count - 1}; got {variable.min()} to {variable.max()}. "
            "Use data with the variable_names that the model was made for."
        )
    if not (np.isfinite(times).all() and np.isfinite(values).all()):
        raise InvalidSample("times and values must be finite. Leave missing observations out.")


def _offsets(groups: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum(np.bincount(groups, minlength=count))))


def _tensor(array: npt.NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(dtype)


def _scaled(values: npt.NDArray[Any], centre: npt.NDArray[Any], scale: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Linear near the median, logarithmic far off: laboratory values span decades, and slips (pH 100) stay bounded."""
    scaled: npt.NDArray[np.float64] = np.arcsinh((values - centre) / scale)
    return scaled


def static_vector(sample: Mapping[str, Any], statics: Sequence[str]) -> npt.NDArray[np.float64]:
    """[F] static features of a sample; NaN where the scalar is missing.

    A name is that of a scalar, or ``scalar=number``: 1 where it has that value, else 0.
    """
    features = np.full(len(statics), np.nan)
    for place, static in enumerate(statics):
        name, mark, wanted = static.partition("=")
        value = sample.get(name)
        if value is not None and math.isfinite(value):
            features[place] = float(value == float(wanted)) if mark else float(value)
    return features


def fit_statistics(
    samples: Iterable[Mapping[str, Any]], variables: int, statics: Sequence[str] = (), seed: int = 0
) -> dict[str, list[float]]:
    """Centre (median) and scale (interquartile range as a standard deviation) per variable, in one pass.

    Give it the training part alone. Quantiles are exact up to 20,000 observations of a variable, and those of a uniform
    random choice of that many beyond, so that memory does not grow with the data. A variable that does not vary, or does
    not occur, has scale 1.

    Returns:
        ``centre``, ``scale``, ``count`` [K], and ``static_centre``, ``static_scale`` [F] (NaN-free).
    """
    rng = np.random.default_rng(seed)
    counts = np.zeros(variables, dtype=np.int64)
    kept = np.empty((3, 0))  # variable, priority, value
    waiting: list[npt.NDArray[np.float64]] = []
    features: list[npt.NDArray[np.float64]] = []
    size = 0
    for sample in samples:
        variable = np.asarray(sample["variables"], dtype=np.int64)
        if variable.size and not (variable.min() >= 0 and variable.max() < variables):
            raise InvalidSetting(f"there are {variables} variables; sample {sample.get('id')!r} has {variable.max()}.")
        counts += np.bincount(variable, minlength=variables)
        waiting.append(np.stack([variable, rng.random(len(variable)), np.asarray(sample["values"], dtype=np.float64)]))
        features.append(static_vector(sample, statics))
        size += len(variable)
        if size > _KEPT * 10:
            kept, waiting, size = _pruned([kept, *waiting]), [], 0
    kept = _pruned([kept, *waiting])
    bounds = np.searchsorted(kept[0], np.arange(variables + 1))
    parts = [kept[2, start:stop] for start, stop in pairwise(bounds)]
    columns = np.stack(features).T if features else np.empty((len(statics), 0))
    centre, scale = zip(*map(_robust, parts), strict=True)
    static_centre, static_scale = zip(*map(_robust, columns), strict=True) if statics else ((), ())
    return {
        "centre": list(centre),
        "scale": list(scale),
        "count": counts.tolist(),
        "static_centre": list(static_centre),
        "static_scale": list(static_scale),
    }


def _pruned(parts: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Of each variable the ``_KEPT`` observations of lowest priority; sorted by variable."""
    every = np.concatenate(parts, axis=1)
    every = every[:, np.lexsort((every[1], every[0]))]
    first = np.searchsorted(every[0], every[0])
    return every[:, np.arange(every.shape[1]) - first < _KEPT]


def _robust(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    spread = float(high - low) / _IQR or float(values.std())
    return float(middle), spread or 1.0
