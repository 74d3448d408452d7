"""Graphs of variables: the hierarchical medical semantic graph (section 4.3) and those it is compared with (Table 4).

Legend: B samples, K variables, O groups (organs), C features of a node.

All groups are one graph of K + O nodes, the variables and then a virtual node per group, with a mask that lets only members of
one group be neighbours; so there is no loop over groups. An edge's weight is the sigmoid of a learned number, and what a node
receives is the weighted mean of its neighbours and itself that are there.

Ours, since the paper is silent: a variable without observations is no node of that sample (its edges are left out of the
mean), rather than a node with a learned stand-in: so a variable that was never absent in training may be absent afterwards.
Eq. 14 makes two rounds over the measurement graph, because after one the virtual node would hold nothing of the edges between
variables. The measurement graph is undirected, as in the paper; the organs' is directed ("the heart is affected by the lung"). A
group without any variable present keeps its virtual node's learned start.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from sensorium.platform.errors import InvalidSetting

__all__ = ["FlatGraph", "HierarchicalGraph", "cluster_variables"]


class _Convolution(nn.Module):
    """x + dropout(GELU(A LayerNorm(x) W)): A is shared by or belongs to the samples, [.., n, n]; x is [B, n, C]."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.map = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, adjacency: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return x + self.dropout(nn.functional.gelu(self.map(adjacency @ self.norm(x))))


def _averaged(weights: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Rows of ``weights`` [n, n] over the nodes that are ``present`` [B, n], with sum 1: [B, n, n].

    A row without any neighbour is all zero.
    """
    there = weights * present[:, None, :]
    return there / there.sum(-1, keepdim=True).clamp(min=1e-6)


def _pooled(x: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Mean over the nodes that are present: [B, n, C] -> [B, C]; 0 where none is."""
    return (x * present[..., None]).sum(1) / present.sum(1, keepdim=True).clamp(min=1)


class HierarchicalGraph(nn.Module):
    """Measurements in groups, then the groups (Eqs 14-16, up to the pooling): nodes [B, K, C] -> [B, C]."""

    def __init__(self, width: int, groups: Sequence[int], dropout: float) -> None:
        """``groups`` has the group of each variable, 0 to O - 1."""
        super().__init__()
        member = torch.tensor([*groups, *range(max(groups) + 1)])  # [K + O]
        self.variables, size = len(groups), max(groups) + 1
        self.register_buffer("allowed", (member[:, None] == member[None, :]).float(), persistent=False)
        self.edges = nn.Parameter(0.1 * torch.randn(len(member), len(member)))
        self.organ_edges = nn.Parameter(0.1 * torch.randn(size, size))
        self.start = nn.Parameter(0.1 * torch.randn(size, width))
        self.rounds = nn.ModuleList(_Convolution(width, dropout) for _ in range(2))
        self.organs = _Convolution(width, dropout)

    def measurement_weights(self) -> torch.Tensor:
        """[K + O, K + O], symmetric; 0 between groups."""
        return ((self.edges + self.edges.T) / 2).sigmoid() * self.allowed

    def forward(self, x: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """``present`` [B, K], 1 where the sample has observations of the variable, else 0."""
        size = len(self.start)
        nodes = torch.cat([x, self.start.expand(len(x), -1, -1)], dim=1)  # [B, K + O, C]
        adjacency = _averaged(self.measurement_weights(), torch.cat([present, present.new_ones(len(x), size)], dim=1))
        for convolution in self.rounds:  # Eq. 14
            nodes = convolution(adjacency, nodes)
        weights = self.organ_edges.sigmoid()
        organs = self.organs(weights / weights.sum(-1, keepdim=True), nodes[:, self.variables :])  # Eq. 15
        return organs.mean(1)

    def adjacency(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Weights of the measurement graph [K + O, K + O] and of the organ graph [O, O] (row: who receives), 0 to 1."""
        return _numpy(self.measurement_weights()), _numpy(self.organ_edges.sigmoid())


class FlatGraph(nn.Module):
    """One level of fully connected variables (Table 4, rows 1 and 3): nodes [B, K, C] -> [B, C].

    With ``groups`` (row 3), the weight within a group is 1 and not learned. Without (row 1), nodes have embeddings that are
    drawn at random and learned, as the weights are.
    """

    def __init__(self, width: int, variables: int, groups: Sequence[int] | None, dropout: float) -> None:
        super().__init__()
        self.edges = nn.Parameter(0.1 * torch.randn(variables, variables))
        self.nodes = nn.Parameter(0.1 * torch.randn(variables, width)) if groups is None else None
        member = torch.tensor(groups if groups is not None else range(variables))
        alike = (member[:, None] == member[None, :]) if groups is not None else torch.zeros(variables, variables)
        self.register_buffer("alike", alike.bool(), persistent=False)
        self.rounds = nn.ModuleList(_Convolution(width, dropout) for _ in range(2))

    def weights(self) -> torch.Tensor:
        """[K, K], symmetric."""
        return ((self.edges + self.edges.T) / 2).sigmoid().masked_fill(self.alike, 1.0)

    def forward(self, x: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """``present`` [B, K], 1 where the sample has observations of the variable, else 0."""
        x = x if self.nodes is None else x + self.nodes
        adjacency = _averaged(self.weights(), present)
        for convolution in self.rounds:
            x = convolution(adjacency, x)
        return _pooled(x, present)

    def adjacency(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Weights [K, K], 0 to 1, and an empty organ graph [0, 0]."""
        return _numpy(self.weights()), np.empty((0, 0), dtype=np.float32)


def _numpy(weights: torch.Tensor) -> npt.NDArray[np.float32]:
    values: npt.NDArray[np.float32] = weights.detach().cpu().float().numpy()
    return values


def cluster_variables(features: npt.NDArray[np.floating], groups: int) -> tuple[int, ...]:
    """A group 0 to ``groups`` - 1 for each variable, without medical knowledge (Table 4, row 2).

    Agglomerative clustering with average linkage; two variables are as near as Spearman's rank correlation of their values is
    strong, whatever its sign, over the samples that have both (none is assumed where those are fewer than 10).

    Args:
        features: [samples, K] one value per sample and variable, such as its mean; NaN where it was not observed. Of the
            training part alone.
        groups: how many, 1 to K.

    Raises:
        InvalidSetting: ``groups`` is out of its range.
    """
    from scipy.cluster.hierarchy import cut_tree, linkage
    from scipy.spatial.distance import squareform

    variables = features.shape[1]
    if not 1 <= groups <= variables:
        raise InvalidSetting(f"groups must be from 1 to the {variables} variables; got {groups}.")
    if variables == 1:
        return (0,)
    distance = 1 - np.abs(_correlations(features))
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average")
    labels = cut_tree(tree, n_clusters=groups)[:, 0]  # unlike fcluster, exactly as many, whatever the ties
    return tuple(int(label) for label in labels)


def _correlations(features: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """[K, K] rank correlations over the samples that both variables have."""
    there = np.isfinite(features)
    ranks = np.where(there, np.argsort(np.argsort(np.where(there, features, np.inf), axis=0), axis=0), 0).astype(float)
    both = there.T.astype(float) @ there
    sums = ranks.T @ there  # [i, j]: of ranks of i where j is there
    squares = (ranks**2).T @ there
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = ranks.T @ ranks - sums * sums.T / both
        variance = squares - sums**2 / both
        correlation = covariance / np.sqrt(variance * variance.T)
    return np.where((both >= 10) & np.isfinite(correlation), correlation, 0.0)
