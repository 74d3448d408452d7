"""Swin-Unet: an encoder and a decoder of Swin transformer blocks with skip connections (paper, Section 2.5, Eqs 10 and 11).

Shapes: B slices, S their side, C features, N windows, T tokens of a window. Four levels; each level but the last ends in patch
merging, each of the decoder begins with patch expanding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["SwinUnet"]

_PATCH, _LEVELS, _WINDOW = 4, 4, 4


class _Attention(nn.Module):
    """Self-attention in windows with a learnt bias for each relative place (Eq. 11)."""

    index: Tensor

    def __init__(self, features: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.queries_keys_values = nn.Linear(features, 3 * features)
        self.out = nn.Linear(features, features)
        self.bias = nn.Parameter(torch.zeros(heads, (2 * window - 1) ** 2))
        places = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        apart = places[:, :, None] - places[:, None, :] + window - 1  # [2, T, T]
        self.register_buffer("index", apart[0] * (2 * window - 1) + apart[1], persistent=False)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """[B, N, T, C]; ``mask`` bool [N, T, T], which pairs may see each other."""
        shape = (*tokens.shape[:3], 3, self.heads, -1)
        queries, keys, values = self.queries_keys_values(tokens).reshape(shape).permute(3, 0, 1, 4, 2, 5)
        bias = self.bias[:, self.index]  # [heads, T, T]
        if mask is not None:
            bias = bias + torch.zeros_like(mask, dtype=tokens.dtype).masked_fill(~mask, float("-inf"))[:, None]
        found = functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=bias.expand(*queries.shape[:-1], -1)
        )
        return torch.as_tensor(self.out(found.transpose(2, 3).flatten(3)))


class _Block(nn.Module):
    """Attention and perceptron, each after a norm and around a skip (Eq. 10); in every second block the windows are shifted."""

    def __init__(self, features: int, heads: int, side: int, *, shifted: bool) -> None:
        super().__init__()
        self.side, self.window = side, min(_WINDOW, side)
        self.shift = self.window // 2 if shifted and side > self.window else 0
        self.first, self.second = nn.LayerNorm(features), nn.LayerNorm(features)
        self.attention = _Attention(features, heads, self.window)
        self.perceptron = nn.Sequential(nn.Linear(features, 4 * features), nn.GELU(), nn.Linear(4 * features, features))
        self.register_buffer("mask", self._mask(), persistent=False)

    def _mask(self) -> Tensor | None:
        """Which tokens of a shifted window were neighbours before the shift, bool [N, T, T]."""
        if not self.shift:
            return None
        line = torch.zeros(self.side, dtype=torch.long)
        line[-self.window :] = 1
        line[-self.shift :] = 2
        part = self._windows((3 * line[:, None] + line)[None, :, :, None])[0, ..., 0]  # [N, T]
        return part[:, :, None] == part[:, None, :]

    def _windows(self, x: Tensor) -> Tensor:
        """[B, S, S, C] -> [B, N, T, C]."""
        count = self.side // self.window
        cut = x.reshape(len(x), count, self.window, count, self.window, -1).transpose(2, 3)
        return cut.reshape(len(x), count**2, self.window**2, -1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, S, S, C] -> the same."""
        moved = torch.roll(self.first(x), (-self.shift, -self.shift), (1, 2)) if self.shift else self.first(x)
        seen = self.attention(self._windows(moved), self.mask)
        count = self.side // self.window
        seen = seen.reshape(len(x), count, count, self.window, self.window, -1).transpose(2, 3).reshape(x.shape)
        x = x + (torch.roll(seen, (self.shift, self.shift), (1, 2)) if self.shift else seen)
        return torch.as_tensor(x + self.perceptron(self.second(x)))


def _blocks(features: int, side: int) -> nn.Sequential:
    heads = max(1, features // 24)
    heads = heads if features % heads == 0 else 1
    return nn.Sequential(*(_Block(features, heads, side, shifted=shifted) for shifted in (False, True)))


class _Merge(nn.Module):
    """Four neighbouring patches become one with twice the features: [B, S, S, C] -> [B, S/2, S/2, 2 C]."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm, self.reduce = nn.LayerNorm(4 * features), nn.Linear(4 * features, 2 * features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        four = torch.cat([x[:, a::2, b::2] for b in (0, 1) for a in (0, 1)], dim=-1)
        return torch.as_tensor(self.reduce(self.norm(four)))


class _Expand(nn.Module):
    """A patch becomes ``times`` x ``times``: [B, S, S, C] -> [B, times S, times S, ``features``]."""

    def __init__(self, before: int, features: int, times: int) -> None:
        super().__init__()
        self.times = times
        self.widen, self.norm = nn.Linear(before, features * times**2, bias=False), nn.LayerNorm(features)

    def forward(self, x: Tensor) -> Tensor:
        batch, side = x.shape[:2]
        cut = self.widen(x).reshape(batch, side, side, self.times, self.times, -1).transpose(2, 3)
        return torch.as_tensor(self.norm(cut.reshape(batch, side * self.times, side * self.times, -1)))


class SwinUnet(nn.Module):
    """Slices [B, channels, S, S] to logits of lung [B, S, S].

    Args:
        channels: of the input; six in the paper.
        side: S, a multiple of 32.
        width: C of the first level.
    """

    def __init__(self, channels: int, side: int, width: int) -> None:
        super().__init__()
        sides = [side // _PATCH >> level for level in range(_LEVELS)]
        widths = [width << level for level in range(_LEVELS)]
        self.embed = nn.Conv2d(channels, width, _PATCH, _PATCH)
        self.norm = nn.LayerNorm(width)
        self.down = nn.ModuleList(_blocks(*pair) for pair in zip(widths, sides, strict=True))
        self.merge = nn.ModuleList(_Merge(one) for one in widths[:-1])
        self.expand = nn.ModuleList(_Expand(2 * one, one, 2) for one in reversed(widths[:-1]))
        self.join = nn.ModuleList(nn.Linear(2 * one, one) for one in reversed(widths[:-1]))
        self.up = nn.ModuleList(_blocks(*pair) for pair in zip(widths[-2::-1], sides[-2::-1], strict=True))
        self.last = _Expand(width, width, _PATCH)
        self.project = nn.Linear(width, 1)  # a convolution of 1 x 1

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.norm(self.embed(x).permute(0, 2, 3, 1))
        skips = []
        for level, blocks in enumerate(self.down):
            x = blocks(x)
            if level < len(self.merge):
                skips.append(x)
                x = self.merge[level](x)
        for expand, join, blocks in zip(self.expand, self.join, self.up, strict=True):
            x = blocks(join(torch.cat([expand(x), skips.pop()], dim=-1)))
        return torch.as_tensor(self.project(self.last(x))[..., 0])
