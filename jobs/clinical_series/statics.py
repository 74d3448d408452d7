"""The prediction from the pooled series and the static features of a sample; the same for all networks."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["Head"]


class Head(nn.Module):
    """Pooled features [B, C] and statics [B, F] -> [B] logits (Pred of Eq. 16).

    A static that is missing (NaN) counts as the training part's median, with a mark that it is missing.
    """

    def __init__(self, width: int, statics: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.predict = nn.Sequential(
            nn.Linear(width + 2 * statics, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, 1)
        )

    def forward(self, pooled: torch.Tensor, statics: torch.Tensor) -> torch.Tensor:
        known = torch.nan_to_num(statics, nan=0.0)
        features = torch.cat([self.norm(pooled), known, statics.isnan().to(pooled.dtype)], dim=-1)
        return self.predict(features).squeeze(-1)
