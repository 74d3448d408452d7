"""Random flips, crops and blur of batches of tiles (section 3.2), on whatever device they are on.

The noise is torch's own, which the fit seeds for every step, so that a fit that is resumed sees the same.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from sensorium.jobs.building_change.data import IGNORED

__all__ = ["augmented"]

#: least side of a crop, as a share of the tile's; the paper gives none, nor the next two
_SMALLEST = 0.8
#: greatest deviation of the blur, pixels, and the chance of one, and of a crop
_BLUR, _CHANCE = 1.0, 0.5
_REACH = 3


def augmented(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A batch with each pair flipped, cropped and blurred at random, both dates and the map alike.

    Args:
        batch: ``before``, ``after`` [B, C, T, T], ``change`` [B, T, T].
    """
    before, after, change = batch["before"], batch["after"], batch["change"]
    count, bands = len(before), before.shape[1]
    pictures = torch.cat([before, after], dim=1)  # [B, 2 C, T, T]: one transform for both dates
    grid = _grid(count, change.shape[-1], pictures.device)
    pictures = functional.grid_sample(pictures, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    # labels are moved up by one, so that what is beyond every edge has a value of its own
    labels = torch.where(change == IGNORED, 0, change + 1)[:, None].float()
    labels = functional.grid_sample(labels, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    change = labels[:, 0].round().long() - 1
    change = torch.where(change < 0, IGNORED, change)
    pictures = _blurred(pictures)
    return {"before": pictures[:, :bands], "after": pictures[:, bands:], "change": change}


def _grid(count: int, side: int, device: torch.device) -> torch.Tensor:
    """Places [B, T, T, 2] to sample at: a flip along either axis, a smaller window that is enlarged."""
    flips = 1.0 - 2.0 * (torch.rand(count, 2, device=device) < 0.5)
    cropped = torch.rand(count, device=device) < _CHANCE
    size = torch.where(cropped, _SMALLEST + (1 - _SMALLEST) * torch.rand(count, device=device), 1.0)
    shift = (2 * torch.rand(count, 2, device=device) - 1) * (1 - size)[:, None]
    matrix = torch.zeros(count, 2, 3, device=device)
    matrix[:, 0, 0], matrix[:, 1, 1] = flips[:, 0] * size, flips[:, 1] * size
    matrix[:, :, 2] = shift
    return functional.affine_grid(matrix, [count, 1, side, side], align_corners=False)


def _blurred(pictures: torch.Tensor) -> torch.Tensor:
    """Half of the pairs with a Gaussian blur of random width."""
    count, channels = pictures.shape[:2]
    wanted = torch.rand(count, device=pictures.device) < _CHANCE
    deviation = _BLUR * torch.rand(count, device=pictures.device).clamp_min(1e-2)
    places = torch.arange(-_REACH, _REACH + 1, device=pictures.device)
    kernel = torch.exp(-(places**2) / (2 * deviation[:, None] ** 2))
    kernel = kernel / kernel.sum(dim=1, keepdim=True)
    still = (places == 0).float().expand_as(kernel)
    kernel = torch.where(wanted[:, None], kernel, still)  # [B, 7]
    kernels = kernel.repeat_interleave(channels, dim=0)[:, None]  # [B C, 1, 7]
    flat = pictures.reshape(1, count * channels, *pictures.shape[2:])
    flat = functional.pad(flat, (_REACH, _REACH, _REACH, _REACH), mode="reflect")
    flat = functional.conv2d(flat, kernels[:, :, None, :], groups=count * channels)
    flat = functional.conv2d(flat, kernels[:, :, :, None], groups=count * channels)
    return flat.reshape(pictures.shape)
