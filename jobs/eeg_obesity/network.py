"""The variational autoencoder, the 1-D CNN and the baseline EEGNet.

Legend: B epochs, C electrodes (19), T values (1280), F temporal filters (8), D spatial filters for each (2), L latent size.
Inputs are standardised epochs, float32. All modules run on the device that their parameters are on.

The first block of encoder and EEGNet costs nearly all of the time: 8 temporal filters of 64 values on each electrode, then
a weighting of the electrodes for each filter. The weighting, which EEGNet writes as a depthwise convolution of C × 1, is
here a product of matrices, [D, C] · [C, T] for each filter: the same numbers, and forwards and backwards together about
twice as fast on a processor as the depthwise convolution. For the same reason the decoder's last layer is a transposed
convolution, nine times as fast as a plain one with eight inputs and one output. Even kernels are padded here, one value
less before than behind, as Keras does: torch's own padding copies and warns.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from sensorium.jobs.eeg_obesity.config import EegConfig, Features
from sensorium.platform.errors import InvalidSample, InvalidSetting

__all__ = [
    "Decoder",
    "EEGNet",
    "Encoder",
    "Latent",
    "SignalCNN",
    "VaeLoss",
    "VariationalAutoencoder",
    "vae_loss",
    "vae_terms",
]

#: average pooling behind the spatial and the separable convolution (EEGNet)
_POOLS = (4, 8)


class Latent(NamedTuple):
    """A Gaussian with independent dimensions: ``mean`` and ``log_variance`` [B, L]."""

    mean: Tensor
    log_variance: Tensor


class VaeLoss(NamedTuple):
    """Scalars: ``total`` = ``reconstruction`` + ``divergence``."""

    total: Tensor
    reconstruction: Tensor
    divergence: Tensor


def _padded(signal: Tensor, kernel: int) -> Tensor:
    """``signal`` [..., T] with zeros so that a convolution with ``kernel`` values keeps T."""
    return functional.pad(signal, ((kernel - 1) // 2, kernel // 2))


class _Spatial(nn.Module):
    """Weights of the electrodes, D for each of F filters: [B, F, C, T] to [B, F · D, T]."""

    def __init__(self, filters: int, depth: int, channels: int, max_norm: float | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(filters, depth, channels))
        self.max_norm = max_norm
        nn.init.kaiming_uniform_(self.weight.view(filters * depth, channels), a=math.sqrt(5))

    def forward(self, maps: Tensor) -> Tensor:
        weight = self.weight if self.max_norm is None else _within(self, self.weight, self.max_norm)
        return torch.matmul(weight, maps).flatten(1, 2)  # [F, D, C] · [B, F, C, T] -> [B, F, D, T] -> [B, F · D, T]


class _Separable(nn.Module):
    """A filter for each map, then a mixture of maps: [B, M, T] to [B, N, T]."""

    def __init__(self, maps: int, result: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.depthwise = nn.Conv1d(maps, maps, kernel, groups=maps, bias=False)
        self.pointwise = nn.Conv1d(maps, result, 1, bias=False)

    def forward(self, signal: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(_padded(signal, self.kernel)))


class _Temporal(nn.Module):
    """F filters along time, the same for every electrode: [B, C, T] to [B, F, C, T]."""

    def __init__(self, filters: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.filters = nn.Conv2d(1, filters, (1, kernel), bias=False)

    def forward(self, epochs: Tensor) -> Tensor:
        return self.filters(_padded(epochs, self.kernel).unsqueeze(1))


class Encoder(nn.Module):
    """Epochs [B, C, T] to a Gaussian in the latent space (2.2): temporal, spatial and separable convolution, each with
    batch normalisation and leaky ReLU.
    """

    def __init__(self, config: EegConfig) -> None:
        super().__init__()
        maps = config.temporal_filters * config.depth
        self.slope = config.slope
        self.temporal = _Temporal(config.temporal_filters, config.temporal_kernel)
        self.temporal_norm = nn.BatchNorm2d(config.temporal_filters)
        self.spatial_layer = _Spatial(config.temporal_filters, config.depth, len(config.channels))
        self.spatial_norm = nn.BatchNorm1d(maps)
        self.separable = _Separable(maps, config.separable_filters, config.separable_kernel)
        self.separable_norm = nn.BatchNorm1d(config.separable_filters)
        self.latent = nn.Linear(config.separable_filters * _steps(config), 2 * config.latent)

    def _filtered(self, epochs: Tensor) -> Tensor:
        """After the temporal block: [B, C, T] to [B, F, C, T]."""
        return functional.leaky_relu(self.temporal_norm(self.temporal(epochs)), self.slope, inplace=True)

    def spatial(self, epochs: Tensor) -> Tensor:
        """Output of the spatial block, the paper's features: [B, C, T] to [B, F · D, T]."""
        return functional.leaky_relu(self.spatial_norm(self.spatial_layer(self._filtered(epochs))), self.slope)

    def forward(self, epochs: Tensor) -> Latent:
        maps = functional.avg_pool1d(self.spatial(epochs), _POOLS[0])  # [B, F · D, T / 4]
        maps = functional.leaky_relu(self.separable_norm(self.separable(maps)), self.slope)
        maps = functional.avg_pool1d(maps, _POOLS[1])  # [B, N, T / 32]
        mean, log_variance = self.latent(maps.flatten(1)).chunk(2, dim=1)
        # a variance beyond e^±15 is none in float32, and its exponential would overflow early in a fit
        return Latent(mean, log_variance.clamp(-15, 15))

    def channel_outputs(self, epochs: Tensor) -> Tensor:
        """What each electrode gives to the spatial convolution's output: [B, C, T] to [B, C].

        The convolution sums over the electrodes, so its output is parted into the terms of the sum, weight times filtered
        electrode, each averaged over time and all F · D maps (3.3; the paper does not say how it parts them). Signed.
        """
        levels = self._filtered(epochs).mean(3)  # [B, F, C]
        return (levels * self.spatial_layer.weight.mean(1)).mean(1)  # weights [F, D, C] over D


class Decoder(nn.Module):
    """Latent values [B, L] to epochs [B, C, T]: the encoder's blocks inverted, in reverse order.

    Pooling becomes repetition, and each convolution its transpose, with batch normalisation and leaky ReLU; the last one
    has neither, since an epoch has values of both signs.
    """

    def __init__(self, config: EegConfig) -> None:
        super().__init__()
        maps = config.temporal_filters * config.depth
        self.slope, self.length = config.slope, config.length
        self.start = (config.separable_filters, _steps(config))
        self.latent = nn.Linear(config.latent, math.prod(self.start))
        self.latent_norm = nn.BatchNorm1d(config.separable_filters)
        self.separable = _Separable(config.separable_filters, maps, config.separable_kernel)
        self.separable_norm = nn.BatchNorm1d(maps)
        self.spatial = nn.Parameter(torch.empty(config.temporal_filters, len(config.channels), config.depth))
        self.spatial_norm = nn.BatchNorm2d(config.temporal_filters)
        self.before = (config.temporal_kernel - 1) // 2
        self.temporal = nn.ConvTranspose2d(config.temporal_filters, 1, (1, config.temporal_kernel))
        nn.init.kaiming_uniform_(self.spatial.view(-1, config.depth), a=math.sqrt(5))

    def forward(self, latent: Tensor) -> Tensor:
        maps = self.latent(latent).unflatten(1, self.start)  # [B, N, T / 32]
        maps = functional.leaky_relu(self.latent_norm(maps), self.slope)
        maps = functional.interpolate(maps, scale_factor=float(_POOLS[1]))
        maps = functional.leaky_relu(self.separable_norm(self.separable(maps)), self.slope)
        maps = functional.interpolate(maps, size=self.length)  # [B, F · D, T]
        spread = torch.matmul(self.spatial, maps.unflatten(1, (self.spatial.shape[0], -1)))  # [F, C, D] · [B, F, D, T]
        spread = functional.leaky_relu(self.spatial_norm(spread), self.slope, inplace=True)  # [B, F, C, T]
        whole = self.temporal(spread).squeeze(1)  # [B, C, T + kernel - 1]; the ends are where the encoder has its zeros
        return whole[..., self.before : self.before + self.length]


class VariationalAutoencoder(nn.Module):
    """Encoder, a draw from its Gaussian, and decoder."""

    def __init__(self, config: EegConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def forward(self, epochs: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Latent]:
        """Reconstruction [B, C, T] and the Gaussian of ``epochs`` [B, C, T].

        ``noise`` [B, L] is a draw from the standard Gaussian; None takes one while training, and the mean itself else.
        """
        latent = self.encoder(epochs)
        if noise is None and self.training:
            noise = torch.randn_like(latent.mean)
        drawn = latent.mean if noise is None else latent.mean + noise * torch.exp(0.5 * latent.log_variance)
        return self.decoder(drawn), latent

    def features(self, epochs: Tensor, kind: Features) -> Tensor:
        """What is classified: ``spatial`` [B, F · D, T], or ``latent``, the mean as one channel, [B, 1, L].

        Without gradients, and in the module's present mode: call ``eval()`` before.
        """
        if kind not in ("spatial", "latent"):
            raise InvalidSetting(f"features must be spatial or latent; got {kind!r}.")
        with torch.no_grad():
            return self.encoder.spatial(epochs) if kind == "spatial" else self.encoder(epochs).mean.unsqueeze(1)


def vae_terms(epochs: Tensor, reconstruction: Tensor, latent: Latent) -> tuple[Tensor, Tensor]:
    """Both terms of Eq. 1 for each epoch, [B] each and in float32: the squared norm of the error, and the divergence of the
    latent Gaussian from the standard one.

    They are sums over what belongs to an epoch (C · T values, L dimensions), as the equation says: with a decoder of unit
    variance this is twice the reconstruction's and once the divergence's part of the bound. The divergence is
    −½ Σ (1 + log σ² − μ² − σ²), in nats.
    """
    error = (reconstruction.float() - epochs).square().sum(dim=(1, 2))
    mean, log_variance = latent.mean.float(), latent.log_variance.float()
    return error, -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(dim=1)


def vae_loss(epochs: Tensor, reconstruction: Tensor, latent: Latent) -> VaeLoss:
    """Eq. 1: the terms of :func:`vae_terms`, averaged over the batch."""
    error, divergence = (term.mean() for term in vae_terms(epochs, reconstruction, latent))
    return VaeLoss(error + divergence, error, divergence)


class SignalCNN(nn.Module):
    """The 1-D CNN of Fig. 2: signals [B, M, T] of any number of channels to logits [B, outputs].

    Three convolutions that keep the length, each with batch normalisation and ReLU (the paper names none; assumed), average
    pooling and dropout behind the second and the third, and one dense layer.

    Args:
        channels: M, such as 16 maps of the encoder, 19 electrodes, or 1 for a latent vector.
        length: T, at least the product of both poolings (32).
        config: filters, kernels, poolings and dropout.
        outputs: 1 for two classes with binary cross-entropy (2.4), else the number of classes.
    """

    def __init__(self, channels: int, length: int, config: EegConfig, outputs: int = 1) -> None:
        super().__init__()
        steps = length // config.cnn_pools[0] // config.cnn_pools[1]
        if steps < 1:
            need = math.prod(config.cnn_pools)
            raise InvalidSetting(f"signals must have {need} values at least, the product of cnn_pools; got {length}.")
        self.kernels, self.pools = config.cnn_kernels, config.cnn_pools
        sizes = (channels, *config.cnn_filters)
        # no bias: the normalisation behind takes it away
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, kernel, bias=False)
            for before, after, kernel in zip(sizes, config.cnn_filters, config.cnn_kernels, strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(filters) for filters in config.cnn_filters)
        self.dropout = nn.Dropout(config.cnn_dropout)
        self.dense = nn.Linear(config.cnn_filters[-1] * steps, outputs)

    def _block(self, signal: Tensor, index: int) -> Tensor:
        result = self.convolutions[index](_padded(signal, self.kernels[index]))
        return functional.relu(self.norms[index](result), inplace=True)

    def forward(self, signal: Tensor) -> Tensor:
        signal = self._block(self._block(signal, 0), 1)  # [B, 16, T]
        signal = self.dropout(functional.avg_pool1d(signal, self.pools[0]))
        signal = self._block(signal, 2)
        signal = self.dropout(functional.avg_pool1d(signal, self.pools[1]))  # [B, 32, T / 32]
        return self.dense(signal.flatten(1))


class EEGNet(nn.Module):
    """The baseline EEGNet-8,2: epochs [B, C, T] to logits [B, outputs].

    V. J. Lawhern et al., "EEGNet: a compact convolutional neural network for EEG-based brain–computer interfaces", Journal
    of Neural Engineering 15, 2018, table 2: ELU, norms of each spatial filter up to 1 and of each output's weights up to
    0.25.
    """

    def __init__(self, config: EegConfig, outputs: int = 1) -> None:
        super().__init__()
        maps = config.temporal_filters * config.depth
        self.temporal = _Temporal(config.temporal_filters, config.temporal_kernel)
        self.temporal_norm = nn.BatchNorm2d(config.temporal_filters)
        self.spatial_layer = _Spatial(config.temporal_filters, config.depth, len(config.channels), max_norm=1.0)
        self.spatial_norm = nn.BatchNorm1d(maps)
        self.separable = _Separable(maps, config.separable_filters, config.separable_kernel)
        self.separable_norm = nn.BatchNorm1d(config.separable_filters)
        self.dropout = nn.Dropout(config.eegnet_dropout)
        self.dense = nn.Linear(config.separable_filters * _steps(config), outputs)

    def spatial(self, epochs: Tensor) -> Tensor:
        """Output of the spatial convolution, normalised and behind its ELU: [B, C, T] to [B, F · D, T]."""
        filtered = self.temporal_norm(self.temporal(epochs))
        return functional.elu(self.spatial_norm(self.spatial_layer(filtered)))

    def forward(self, epochs: Tensor) -> Tensor:
        maps = self.dropout(functional.avg_pool1d(self.spatial(epochs), _POOLS[0]))
        maps = functional.elu(self.separable_norm(self.separable(maps)))
        maps = self.dropout(functional.avg_pool1d(maps, _POOLS[1]))
        return functional.linear(maps.flatten(1), _within(self, self.dense.weight, 0.25), self.dense.bias)


def _within(module: nn.Module, weight: nn.Parameter, limit: float) -> Tensor:
    """``weight`` with the norm of its last axis at most ``limit``.

    While training the parameter itself is moved there, as a constraint behind the last optimiser step would do; else it is
    left alone, and the result is the same.
    """
    with torch.no_grad():
        norms = weight.norm(dim=-1, keepdim=True)
        factor = torch.where(norms > limit, limit / norms, torch.ones_like(norms))
        if not module.training:
            return weight * factor
        weight.mul_(factor)
    return weight


def _steps(config: EegConfig) -> int:
    """Values of an epoch that are left behind both poolings.

    Raises:
        InvalidSample: there are none.
    """
    steps = config.length // _POOLS[0] // _POOLS[1]
    if steps < 1:
        raise InvalidSample(f"an epoch needs {math.prod(_POOLS)} values at least; got {config.length}.")
    return steps
