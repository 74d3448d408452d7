"""What MVMformer is compared with: a recurrent network with decay, a plain Transformer, and features for boosted trees.

Legend as in :mod:`.ragged`; further T, the most visits (or observations) of a sample in the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sensorium.jobs.clinical_series.config import ClinicalConfig
from sensorium.jobs.clinical_series.ragged import RaggedBatch, static_vector
from sensorium.jobs.clinical_series.statics import Head

__all__ = ["FEATURES", "GruD", "TripletTransformer", "summary_features"]

#: of each variable, in this order
FEATURES = ("count", "minimum", "maximum", "mean", "deviation", "first", "last", "slope", "last_time")


#: hours², below which the times of a series are one time but for rounding
_SAME = 1e-12


class GruD(nn.Module):
    """GRU-D (Z. Che et al., "Recurrent neural networks for multivariate time series with missing values", 2018).

    The union of a sample's time stamps is its sequence. What was not observed at one decays from the last value towards the
    training part's centre (0 after scaling) with the time since, the hidden state decays with the time since the last visit,
    and the masks are inputs too (Eqs 10-15 there). Values of one variable at one time are averaged.
    """

    def __init__(self, config: ClinicalConfig, variables: int) -> None:
        super().__init__()
        width = config.hidden
        self.decay_input = nn.Parameter(torch.full((variables,), 0.1))
        self.offset_input = nn.Parameter(torch.zeros(variables))
        self.decay_hidden = nn.Linear(variables, width)
        self.cell = nn.GRUCell(2 * variables, width)
        self.dropout = nn.Dropout(config.dropout)
        self.head = Head(width, len(config.statics), config.dropout)

    def forward(self, batch: RaggedBatch) -> torch.Tensor:
        """[B] logits."""
        values, observed, since, lengths = _grid(batch)
        decay = torch.exp(-torch.relu(self.decay_input * since + self.offset_input))  # [B, T, K]
        filled = torch.where(observed.bool(), values, _held(values, observed) * decay)
        keep = torch.exp(-torch.relu(self.decay_hidden(since)))  # [B, T, C]
        inputs = torch.cat([filled, observed], dim=-1)
        hidden = values.new_zeros(batch.samples, keep.shape[-1])
        live = (torch.arange(values.shape[1], device=lengths.device)[:, None] < lengths).unsqueeze(-1)  # [T, B, 1]
        for step in range(values.shape[1]):
            hidden = torch.where(live[step], self.cell(inputs[:, step], keep[:, step] * hidden), hidden)
        return self.head(self.dropout(hidden), batch.statics)


def _grid(batch: RaggedBatch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Values, masks and hours since the last observation before, each [B, T, K], and visits of each sample [B].

    Where nothing was observed the value is 0. Hours count from the first visit where there was no observation before.
    """
    lengths = batch.visit_offsets.diff()
    owner = torch.repeat_interleave(torch.arange(batch.samples, device=lengths.device), lengths)
    place = torch.arange(len(owner), device=lengths.device) - batch.visit_offsets[owner]
    most = int(lengths.max()) if len(lengths) else 0
    cell = (owner * most + place)[batch.visit] * batch.variables + batch.variable
    size = (batch.samples, most, batch.variables)
    zeros = batch.values.new_zeros(batch.samples * most * batch.variables)
    counts = zeros.index_add(0, cell, torch.ones_like(batch.values))
    values = (zeros.index_add(0, cell, batch.values) / counts.clamp(min=1)).view(size)
    observed = (counts > 0).to(values.dtype).view(size)
    times = batch.values.new_zeros(batch.samples, most)
    times[owner, place] = batch.visit_times
    start = times[:, :1, None] if most else times[..., None]
    seen = torch.where(observed.bool(), times[..., None], start).cummax(1).values
    before = torch.cat([start.expand(-1, min(most, 1), size[2]), seen[:, :-1]], dim=1)
    return values, observed, (times[..., None] - before).clamp(min=0), lengths


def _held(values: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
    """The last observed value at or before each place [B, T, K]; 0 before the first."""
    steps = torch.arange(values.shape[1], device=values.device)[None, :, None]
    last = torch.where(observed.bool(), steps, -1).cummax(1).values
    return torch.where(last >= 0, values.gather(1, last.clamp(min=0)), 0.0)


class _Block(nn.Module):
    """Pre-norm Transformer block of 4 heads: [B, T, C] -> [B, T, C]."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.maps = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """``there`` [B, T] bool, which tokens are real."""
        query, key, value = self.maps(self.norms[0](x)).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
        mask = there[:, None, None, :]
        seen = nn.functional.scaled_dot_product_attention(query, key, value, mask)  # [B, 4, T, C / 4]
        x = x + self.dropout(self.join(seen.transpose(1, 2).flatten(2)))
        return x + self.dropout(self.feed(self.norms[1](x)))


class TripletTransformer(nn.Module):
    """A Transformer on (time, variable, value) triplets, after S. Tipirneni and C. K. Reddy (STraTS, 2022), without its
    self-supervised part: every observation is a token, all attend to all, and learned weights pool them.
    """

    def __init__(self, config: ClinicalConfig, variables: int, layers: int = 2) -> None:
        super().__init__()
        width = config.hidden
        self.variable = nn.Embedding(variables, width)
        self.value = nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, width))
        self.time = nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, width))
        self.layers = nn.ModuleList(_Block(width, config.dropout) for _ in range(layers))
        self.weigh = nn.Linear(width, 1)
        self.head = Head(width, len(config.statics), config.dropout)

    def forward(self, batch: RaggedBatch) -> torch.Tensor:
        """[B] logits."""
        hours = batch.times[:, None] / 24
        tokens = self.variable(batch.variable) + self.value(batch.values[:, None]) + self.time(hours)
        sizes = batch.counts.view(batch.samples, batch.variables).sum(1)
        most = max(1, int(sizes.max())) if batch.samples else 1
        owner = batch.series // batch.variables
        place = torch.arange(len(owner), device=owner.device) - (sizes.cumsum(0) - sizes)[owner]
        x = tokens.new_zeros(batch.samples * most, tokens.shape[1]).index_copy(0, owner * most + place, tokens)
        x = x.view(batch.samples, most, -1)
        absent = torch.arange(most, device=sizes.device) >= sizes.clamp(min=1)[:, None]  # [B, T]
        for layer in self.layers:
            x = layer(x, ~absent)
        weights = self.weigh(x).squeeze(-1).masked_fill(absent, -torch.inf).softmax(1)
        return self.head((weights[:, None] @ x).squeeze(1), batch.statics)


def summary_features(
    samples: Iterable[Mapping[str, Any]], variables: int, statics: Sequence[str] = ()
) -> npt.NDArray[np.float64]:
    """[n, K·9 + F] of each sample: :data:`FEATURES` of its variables (variable after variable), then its statics.

    NaN where there is no observation (count is 0 there), where a slope (least squares, per hour) has no two times, and where
    a static is missing: for boosted trees, which know what to do with it (scikit-learn's refuse a column that is NaN
    throughout).
    """
    rows = [
        np.concatenate([_summary(sample, variables).T.ravel(), static_vector(sample, statics)]) for sample in samples
    ]
    return np.stack(rows) if rows else np.empty((0, variables * len(FEATURES) + len(statics)))


def _summary(sample: Mapping[str, Any], variables: int) -> npt.NDArray[np.float64]:
    """[9, K]"""
    variable = np.asarray(sample["variables"], dtype=np.int64)
    order = np.lexsort((np.asarray(sample["times"]), variable))
    variable = variable[order]
    times, values = (np.asarray(sample[name], dtype=np.float64)[order] for name in ("times", "values"))
    found, start, counts = np.unique(variable, return_index=True, return_counts=True)
    summary = np.full((len(FEATURES), variables), np.nan)
    summary[0] = 0
    if not len(found):
        return summary
    stop = start + counts - 1

    def mean(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(np.add.reduceat(x, start) / counts)

    off = values - np.repeat(mean(values), counts)
    apart = times - np.repeat(mean(times), counts)
    spread = mean(apart**2)
    slope = np.divide(mean(apart * off), spread, out=np.full(len(found), np.nan), where=spread > _SAME)
    extremes = (np.minimum.reduceat(values, start), np.maximum.reduceat(values, start))
    ends = (values[start], values[stop], slope, times[stop])
    summary[:, found] = np.stack([counts, *extremes, mean(values), np.sqrt(mean(off**2)), *ends])
    return summary
