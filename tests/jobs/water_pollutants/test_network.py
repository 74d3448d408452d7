"""The four classifiers: shapes, Table 2, and that they learn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn import functional

from sensorium.jobs.water_pollutants.network import NETWORKS, WindowCNN, build
from sensorium.platform.errors import InvalidSetting


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """One seed; and one thread, since these networks are too small to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", NETWORKS)
def test_windows_become_logits(name: str) -> None:
    network = build(name, 32, 10, 8).eval()
    windows = torch.randn(5, 32, 10)
    logits = network(windows)
    assert logits.shape == (5, 8)
    assert torch.allclose(network(windows[2:3]), logits[2:3], atol=1e-5)  # of each window alone
    restored = build(name, 32, 10, 8).eval()
    restored.load_state_dict(network.state_dict())
    assert torch.equal(restored(windows), logits)


def test_table_2() -> None:
    network = build("cnn", 32, 10, 8)
    kinds = [type(layer).__name__ for layer in [*network.convolutions, *network.dense]]
    block = ["Conv2d", "ReLU", "BatchNorm2d"]
    dense = ["Flatten", "Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert kinds == [*block, *([*block, "Dropout"] * 3), *dense]
    sizes = [(layer.out_channels, layer.kernel_size) for layer in network.convolutions if isinstance(layer, nn.Conv2d)]
    assert sizes == [(filters, (3, 3)) for filters in (32, 64, 128, 256)]
    assert [layer.out_features for layer in network.dense if isinstance(layer, nn.Linear)] == [128, 64, 8]
    assert network.convolutions(torch.zeros(1, 1, 32, 10)).shape == (1, 256, 24, 2)


def test_small_windows_need_padding() -> None:
    with pytest.raises(InvalidSetting, match=r"16 x 8 leaves nothing .* padding=same"):
        build("cnn", 16, 8, 6)
    assert build("cnn", 16, 8, 6, padding="same")(torch.zeros(2, 16, 8)).shape == (2, 6)
    with pytest.raises(InvalidSetting, match="'full'"):
        WindowCNN(32, 10, 8, "full")  # type: ignore[arg-type]
    with pytest.raises(InvalidSetting, match=r"'ltsm'\. Did you mean 'lstm'"):
        build("ltsm", 32, 10, 8)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_learns(name: str) -> None:
    """Rising or falling: a difference that lies in the order of the readings alone."""

    def problem(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(count) % 2
        slope = torch.linspace(-1, 1, 12)[None, :, None] * (2 * labels[:, None, None] - 1)
        return slope + 0.3 * torch.randn(count, 12, 9), labels

    network = build(name, 12, 9, 2)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    optimiser = torch.optim.Adam(network.parameters(), 0.003)
    for _ in range(40):
        windows, labels = problem(32)
        optimiser.zero_grad()
        functional.cross_entropy(network(windows), labels).backward()
        optimiser.step()
    network.eval()
    windows, labels = problem(100)
    with torch.no_grad():
        found = network(windows).argmax(1)
    assert float((found == labels).float().mean()) > 0.95
    assert all(not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", NETWORKS)
def test_runs_on_an_accelerator(name: str) -> None:
    assert build(name, 32, 10, 8).to("cuda")(torch.zeros(2, 32, 10, device="cuda")).device.type == "cuda"
