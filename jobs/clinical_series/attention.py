"""Multi-scale value-density attention (section 4.2), as one block of a Transformer.

Legend as in :mod:`.ragged`; further H heads, D = time_dim / H, E = value_dim / H, M reference points, and the tiles' G, Q, W.

Each observation is the centre of one segment per head, the observations of its own series within L_h / 2 hours (Eq. 1),
clipped at the ends of the series. Two properties keep this fast. Kernels depend on times alone, so embeddings, queries and keys
are computed per visit and shared by all variables observed then; and the density at the reference points of a segment is a sum
over its observations of a term that knows only the two visits, so the terms are computed per pair of visits and summed for
all variables by one matrix product with the counts of observations.

Ours, since the paper is silent: time and value dimensions are shared out to the heads, as usual; Wp is drawn with standard
deviation 1 / L_h rad/h, which gives kernels as wide as their segments (Eq. 4 read to the letter, with γ = 1/L_h and variance
γ⁻², gives kernels 1/L_h hours wide, below the spacing of any record and narrower for longer segments); the pooling of Eq. 9 is a
sum, for a mean would lose how many observations there are, which is what the density unit is for, and its logarithm goes into
the MLP; heads are joined by a linear map, residual connections and layer norms are placed as in a pre-norm Transformer block.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from sensorium.jobs.clinical_series.config import ClinicalConfig
from sensorium.jobs.clinical_series.ragged import RaggedBatch
from sensorium.jobs.clinical_series.tiles import BORDER, Tiles, cut, map_tiles

__all__ = ["PAIR_BUDGET", "HeadLinear", "Layer", "TimeEmbedding"]

#: numbers that attention holds at once per layer and unit; some 256 MB in float32 with what autograd keeps of them
PAIR_BUDGET = 2**24

#: columns of counts are rounded up to a multiple of this, for which matrix products are nearly twice as fast
_ROUND = 8


def _rows(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """``x[index]`` for an index of any rank; its backward pass is several times as fast on processors."""
    return x.index_select(0, index.flatten()).view(*index.shape, *x.shape[1:])


class HeadLinear(nn.Module):
    """A linear map of its own for every head: [..., H, inputs] -> [..., H, outputs].

    Weights begin with a standard deviation of ``gain`` / √inputs.
    """

    def __init__(self, heads: int, inputs: int, outputs: int, *, gain: float = 1.0, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(heads, inputs, outputs) * gain / math.sqrt(inputs))
        self.bias = nn.Parameter(torch.zeros(heads, outputs)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1, *x.shape[-2:]).transpose(0, 1)  # [H, n, inputs]
        y = torch.bmm(flat, self.weight).transpose(0, 1)
        y = y if self.bias is None else y + self.bias
        return y.reshape(*x.shape[:-1], y.shape[-1])


class TimeEmbedding(nn.Module):
    """Gaussian time embedding of each head (Eqs 4-5): [..., 1] hours for all heads, or [..., H], -> [..., H, D].

    ``lengths`` are the hours of each head. With ``gaussian=False``, for vanilla attention, the frequencies are the usual fixed
    ones, falling geometrically, the same for all heads.
    """

    def __init__(self, lengths: tuple[float, ...], dim: int, *, gaussian: bool = True) -> None:
        super().__init__()
        half = dim // 2
        if gaussian:
            scale = torch.tensor(lengths)[:, None]
            self.frequencies = nn.Parameter(torch.randn(len(lengths), half) / scale)  # [H, D/2], rad/h
        else:
            fixed = 1000.0 ** (-torch.arange(half) / half)
            self.register_buffer("frequencies", fixed.repeat(len(lengths), 1))
        self.mix = HeadLinear(
            len(lengths), dim, dim, gain=math.sqrt(2 * dim)
        )  # the features' mean square is 1 / (2 dim)

    def forward(self, times: torch.Tensor) -> torch.Tensor:
        angle = times[..., None] * self.frequencies  # [..., H, D/2]
        features = torch.cat([angle.cos(), angle.sin()], dim=-1) / math.sqrt(2 * angle.shape[-1])
        return nn.functional.gelu(self.mix(features))


class _ValueUnit(nn.Module):
    """What each centre gathers of its segment, weighted by attention (Eqs 6-7): -> [N, H·E].

    With ``value_unit`` off, what is gathered is the time embedding (when something was observed) instead of the observation.
    Vanilla attention (Table 3) has queries and keys of what was observed too, scaled as usual, over the whole series.
    """

    def __init__(self, config: ClinicalConfig, lengths: tuple[float, ...]) -> None:
        super().__init__()
        heads, time = config.heads, config.time_dim // config.heads
        self.heads, self.observed, self.kernelised = heads, config.value_unit, config.attention == "kernelised"
        if self.observed:
            self.value: nn.Module = nn.Linear(config.hidden, config.value_dim)
        else:
            self.value = HeadLinear(heads, time, config.value_dim // heads)
        if not self.kernelised:
            self.content = nn.Linear(config.hidden, 2 * config.time_dim, bias=False)
        reach = torch.tensor(lengths) / 2 if self.kernelised else torch.full((heads,), torch.inf)
        self.register_buffer("reach", reach, persistent=False)  # [H] h
        self.farthest = float(reach.max())

    def forward(
        self, batch: RaggedBatch, x: torch.Tensor, times: torch.Tensor, query: torch.Tensor, key: torch.Tensor
    ) -> torch.Tensor:
        """``x`` [N, hidden]; ``times``, ``query`` and ``key`` [V, H, D], the embedding and its two maps."""
        query, key = _rows(query, batch.visit), _rows(key, batch.visit)  # [N, H, D]
        # [N, H, E]
        value = (
            self.value(x).unflatten(-1, (self.heads, -1)) if self.observed else _rows(self.value(times), batch.visit)
        )
        if not self.kernelised:
            more_query, more_key = self.content(x).unflatten(-1, (2, self.heads, -1)).unbind(1)
            query = (query + more_query) / math.sqrt(query.shape[-1])
            key = key + more_key
        stacks, rows = cut(batch.times, batch.offsets, self.farthest)
        reach = self.reach[:, None, None] + BORDER

        def attend(tiles: Tiles) -> torch.Tensor:
            q = _rows(query, tiles.centres).transpose(1, 2)  # [G, H, Q, D]
            k = _rows(key, tiles.keys).permute(0, 2, 3, 1)  # [G, H, D, W]
            apart = (batch.times[tiles.centres][:, :, None] - batch.times[tiles.keys][:, None, :]).abs()  # [G, Q, W]
            apart = apart.masked_fill(~tiles.valid[:, None, :], torch.nan)  # compares as beyond any reach
            scores = torch.where(apart[:, None] <= reach, q @ k, -torch.inf)
            return (scores.softmax(-1) @ _rows(value, tiles.keys).transpose(1, 2)).transpose(1, 2)  # [G, Q, H, E]

        return map_tiles(attend, stacks, self.heads, PAIR_BUDGET)[rows].flatten(1)


class _DensityUnit(nn.Module):
    """How densely each segment is observed near M regular points of it (Eqs 8-11): -> [N, value_dim].

    An observation shares a mass of 1 out to the M points of a segment, by the kernel normalised over the points (Eq. 8); the
    masses are summed over the observations (Eq. 9), per head, and embedded by an MLP over all heads (Eqs 10-11).
    """

    def __init__(self, config: ClinicalConfig, lengths: tuple[float, ...]) -> None:
        super().__init__()
        reach = torch.tensor(lengths) / 2
        self.register_buffer("reach", reach, persistent=False)  # [H] h
        points = torch.linspace(-1, 1, config.reference_points)[:, None] * reach  # [M, H]
        self.register_buffer("points", points, persistent=False)
        width = config.heads * config.reference_points
        self.embed = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, config.value_dim))
        self.farthest = float(reach.max())

    def forward(
        self, batch: RaggedBatch, embedding: TimeEmbedding, to_key: HeadLinear, query: torch.Tensor
    ) -> torch.Tensor:
        """``query`` [V, H, D]: of the observed times; the keys are of the reference points."""
        heads, count = self.points.shape[1], self.points.shape[0]
        visits = len(batch.visit_times)
        references = embedding(batch.visit_times[:, None, None] + self.points)  # [V, M, H, D]
        key = to_key(references)  # [V, M, H, D]
        columns = -(-batch.variables // _ROUND) * _ROUND
        flat = batch.visit * columns + batch.variable
        observed = torch.zeros(visits * columns, device=query.device, dtype=query.dtype)
        observed = observed.index_add(0, flat, torch.ones_like(batch.values, dtype=query.dtype))
        observed = observed.view(visits, columns)  # [V, K] observations; more than 1 where a time is repeated
        stacks, rows = cut(batch.visit_times, batch.visit_offsets, self.farthest)
        reach = self.reach[:, None, None] + BORDER

        def weigh(tiles: Tiles) -> torch.Tensor:
            # what was observed asks the points of each centre; points first, so that the softmax runs over long rows
            r = _rows(key, tiles.centres).permute(0, 3, 2, 1, 4).flatten(2, 3)  # [G, H, M·Q, D]
            q = _rows(query, tiles.keys).permute(0, 2, 3, 1)  # [G, H, D, W]
            mass = (r @ q).unflatten(2, (count, -1)).softmax(2)  # [G, H, M, Q, W]
            apart = (batch.visit_times[tiles.centres][:, :, None] - batch.visit_times[tiles.keys][:, None, :]).abs()
            inside = (apart[:, None] <= reach) & tiles.valid[:, None, None, :]  # [G, H, Q, W]
            mass = (mass * inside[:, :, None]).flatten(1, 3)
            pooled = (
                mass @ observed[tiles.keys]
            )  # [G, H·M·Q, K]; heads are rows, so that the counts are not copied for each
            return pooled.unflatten(1, (heads * count, -1)).permute(0, 2, 3, 1)  # [G, Q, K, H·M]

        # of all variables at a visit, those that were observed then
        summed = map_tiles(weigh, stacks, heads * count, PAIR_BUDGET).flatten(0, 1)
        density = _rows(summed, rows[batch.visit] * columns + batch.variable)  # [N, H·M]
        return self.embed(density.log1p())


class Layer(nn.Module):
    """One layer: x + W [value; density] of LayerNorm(x), then x + MLP of LayerNorm(x); [N, hidden] -> [N, hidden]."""

    def __init__(self, config: ClinicalConfig, lengths: tuple[float, ...]) -> None:
        super().__init__()
        time = config.time_dim // config.heads
        self.embedding = TimeEmbedding(lengths, time, gaussian=config.attention == "kernelised")
        self.to_query = HeadLinear(config.heads, time, time, bias=False)
        self.to_key = HeadLinear(config.heads, time, time, bias=False)
        # equal at the start, so that attention begins as a kernel that falls with the distance in time
        self.to_key.load_state_dict(self.to_query.state_dict())
        self.value = _ValueUnit(config, lengths)
        self.density = _DensityUnit(config, lengths) if config.density_unit else None
        width = config.value_dim * (2 if config.density_unit else 1)
        # nothing of what was observed enters when the value unit is off, but for vanilla attention's scores
        sees = config.value_unit or config.attention == "vanilla"
        self.norm = nn.LayerNorm(config.hidden) if sees else nn.Identity()
        self.join = nn.Sequential(nn.Linear(width, config.hidden), nn.Dropout(config.dropout))
        self.feed = nn.Sequential(
            nn.LayerNorm(config.hidden),
            nn.Linear(config.hidden, 2 * config.hidden),
            nn.GELU(),
            nn.Linear(2 * config.hidden, config.hidden),
        )

    def forward(self, batch: RaggedBatch, x: torch.Tensor) -> torch.Tensor:
        times = self.embedding(batch.visit_times[:, None])  # [V, H, D]
        query, key = self.to_query(times), self.to_key(times)
        segment = self.value(batch, self.norm(x), times, query, key)  # Eq. 7
        if self.density is not None:
            density = self.density(batch, self.embedding, self.to_key, query)
            segment = torch.cat([segment, density], dim=-1)  # Eq. 12
        x = x + self.join(segment)
        return x + self.feed(x)
