"""The networks: shapes, formulas, equivalences, and that they learn."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch.nn import functional

from sensorium.jobs.eeg_obesity.config import CHANNELS, EegConfig
from sensorium.jobs.eeg_obesity.network import (
    EEGNet,
    Encoder,
    Latent,
    SignalCNN,
    VariationalAutoencoder,
    vae_loss,
)
from sensorium.platform.errors import InvalidSample, InvalidSetting

SMALL = EegConfig(channels=CHANNELS[:5], epoch=1.0, latent=32)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """One seed; and one thread, since these networks are too small to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def batch(count: int = 4, config: EegConfig = SMALL) -> torch.Tensor:
    return torch.randn(count, len(config.channels), config.length)


def test_shapes_of_the_paper() -> None:
    config = EegConfig()
    network = VariationalAutoencoder(config)
    epochs = batch(2, config)
    reconstruction, latent = network(epochs)
    assert reconstruction.shape == epochs.shape == (2, 19, 1280)
    assert latent.mean.shape == latent.log_variance.shape == (2, 64)
    assert network.features(epochs, "spatial").shape == (2, 16, 1280)
    assert network.features(epochs, "latent").shape == (2, 1, 64)
    assert SignalCNN(16, 1280, config)(network.features(epochs, "spatial")).shape == (2, 1)
    assert SignalCNN(1, 64, config)(network.features(epochs, "latent")).shape == (2, 1)
    assert SignalCNN(19, 1280, config, outputs=3)(epochs).shape == (2, 3)
    assert EEGNet(config)(epochs).shape == (2, 1)
    assert EEGNet(config).spatial(epochs).shape == (2, 16, 1280)


def test_the_spatial_block_is_that_of_eegnet() -> None:
    """Against the convolutions as EEGNet writes them: 1 × 64 with padding, then depthwise C × 1."""
    encoder = Encoder(SMALL).eval()
    epochs = batch()
    with torch.no_grad():
        padded = functional.pad(epochs, (31, 32)).unsqueeze(1)
        maps = functional.conv2d(padded, encoder.temporal.filters.weight)
        maps = functional.leaky_relu(encoder.temporal_norm(maps), SMALL.slope)
        weight = encoder.spatial_layer.weight.reshape(16, 1, 5, 1)
        maps = functional.conv2d(maps, weight, groups=8).squeeze(2)
        expected = functional.leaky_relu(encoder.spatial_norm(maps), SMALL.slope)
        assert torch.allclose(encoder.spatial(epochs), expected, atol=1e-5)


def test_the_decoders_last_layer_is_the_transpose_of_the_encoders_first() -> None:
    network = VariationalAutoencoder(SMALL)
    network.decoder.temporal.weight.data = network.encoder.temporal.filters.weight.data.clone()
    network.decoder.temporal.bias.data.zero_()
    epochs, maps = batch(1), torch.randn(1, 8, 5, SMALL.length)
    with torch.no_grad():
        forwards = (network.encoder.temporal(epochs) * maps).sum()
        decoder = network.decoder
        whole = decoder.temporal(maps).squeeze(1)[..., decoder.before : decoder.before + decoder.length]
        assert float((whole * epochs).sum()) == pytest.approx(float(forwards), rel=1e-4)


def test_terms_of_the_electrodes_add_up_to_the_spatial_convolution() -> None:
    encoder = Encoder(SMALL).eval()
    epochs = batch()
    with torch.no_grad():
        convolved = encoder.spatial_layer(encoder._filtered(epochs))
        assert torch.allclose(encoder.channel_outputs(epochs).sum(1), convolved.mean(dim=(1, 2)), atol=1e-5)


def test_the_loss_is_eq_1() -> None:
    epochs, reconstruction = batch(3), batch(3)
    latent = Latent(torch.randn(3, 8), torch.randn(3, 8))
    loss = vae_loss(epochs, reconstruction, latent)
    prior = torch.distributions.Normal(0.0, 1.0)
    posterior = torch.distributions.Normal(latent.mean, torch.exp(0.5 * latent.log_variance))
    divergence = torch.distributions.kl_divergence(posterior, prior).sum(1).mean()
    assert float(loss.divergence) == pytest.approx(float(divergence), rel=1e-5)
    norms = np.linalg.norm((reconstruction - epochs).flatten(1).numpy(), axis=1)
    assert float(loss.reconstruction) == pytest.approx(float((norms**2).mean()), rel=1e-5)
    assert float(loss.total) == pytest.approx(float(loss.reconstruction + loss.divergence), rel=1e-6)
    zero = Latent(torch.zeros(3, 8), torch.zeros(3, 8))
    assert float(vae_loss(epochs, epochs, zero).total) == 0


def test_draws_are_random_in_training_only() -> None:
    network = VariationalAutoencoder(SMALL)
    epochs = batch()
    network(epochs)
    assert not torch.equal(network(epochs)[0], network(epochs)[0])
    network.eval()
    assert torch.equal(network(epochs)[0], network(epochs)[0])
    one, two = (network(epochs, torch.full((4, 32), value))[0] for value in (0.0, 3.0))
    assert torch.equal(one, network(epochs)[0])
    assert not torch.equal(one, two)
    assert not network.features(epochs, "spatial").requires_grad
    with pytest.raises(InvalidSetting, match="'both'"):
        network.features(epochs, "both")  # type: ignore[arg-type]


def rhythms(labels: torch.Tensor) -> torch.Tensor:
    """Epochs of 4 or 10 Hz by class, of any phase, the same on all electrodes but for noise."""
    time = torch.arange(SMALL.length) / SMALL.rate
    frequency = torch.where(labels[:, None, None] == 1, 10.0, 4.0)
    phase = 2 * torch.pi * torch.rand(len(labels), 1, 1)
    return 3 * torch.sin(2 * torch.pi * frequency * time + phase) + 0.3 * batch(len(labels))


def test_the_autoencoder_learns_with_every_parameter() -> None:
    network = VariationalAutoencoder(SMALL)
    epochs = rhythms(torch.arange(32) % 2)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(120):
        optimiser.zero_grad()
        vae_loss(epochs, *network(epochs)).total.backward()
        optimiser.step()
    network.eval()
    with torch.no_grad():
        loss = vae_loss(epochs, *network(epochs))
    assert float(loss.reconstruction) < 0.2 * float(epochs.square().sum(dim=(1, 2)).mean())  # what zeros would leave
    assert all(not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))


@pytest.mark.parametrize("name", ["cnn", "eegnet"])
def test_a_classifier_learns_with_every_parameter(name: str) -> None:
    network = EEGNet(SMALL) if name == "eegnet" else SignalCNN(5, SMALL.length, SMALL)
    labels, unseen = torch.arange(64) % 2, torch.arange(40) % 2
    epochs = rhythms(labels)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(40):
        optimiser.zero_grad()
        functional.binary_cross_entropy_with_logits(network(epochs)[:, 0], labels.float()).backward()
        optimiser.step()
    network.eval()
    with torch.no_grad():
        found = network(rhythms(unseen))[:, 0] > 0
    assert float((found == unseen.bool()).float().mean()) > 0.9
    assert all(not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))


def test_norms_stay_within_their_limits() -> None:
    network = EEGNet(SMALL)
    optimiser = torch.optim.SGD(network.parameters(), 50.0)
    for _ in range(3):
        network(batch()).sum().backward()
        optimiser.step()
        optimiser.zero_grad()
    epochs = batch()
    assert float(network.dense.weight.detach().norm(dim=-1).max()) > 0.25  # the last step went beyond
    network.eval()
    before = network(epochs)
    left = network.dense.weight.detach().clone()
    network.train()
    network(epochs)
    assert float(network.spatial_layer.weight.detach().norm(dim=-1).max()) <= 1 + 1e-5
    assert float(network.dense.weight.detach().norm(dim=-1).max()) <= 0.25 + 1e-5
    assert not torch.equal(left, network.dense.weight)
    assert before.shape == (4, 1)


def test_too_short_signals_are_refused() -> None:
    with pytest.raises(InvalidSetting, match="32 values at least, the product of cnn_pools; got 31"):
        SignalCNN(1, 31, SMALL)
    with pytest.raises(InvalidSample, match="got 31"):
        EEGNet(_short())


def _short() -> EegConfig:
    config = EegConfig(epoch=0.25)
    object.__setattr__(config, "epoch", 31 / 128)
    return config


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_runs_on_an_accelerator() -> None:
    network = VariationalAutoencoder(SMALL).to("cuda")
    reconstruction, _ = network(batch().to("cuda"))
    assert reconstruction.device.type == "cuda"
