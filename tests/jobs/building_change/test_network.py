"""AYANet against its formulas and the published counts of its parameters."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from sensorium.jobs.building_change.config import ChangeConfig
from sensorium.jobs.building_change.efficientnet import EfficientStages, _configuration, load_weights, stage_channels
from sensorium.jobs.building_change.gabor import GaborConvolution, GaborEncoder, bank
from sensorium.jobs.building_change.network import AYANet, Conjunction, build, parameters
from sensorium.platform.errors import InvalidSetting

SMALL = {"width": 0.25, "depth": 1.0}


@pytest.mark.parametrize("scale", [1, 2])
def test_the_bank_is_the_papers_formula(scale: int) -> None:
    """Eq. 1 written out value by value, with complex waves."""
    found = bank(scale)
    sigma, frequency = 2 * math.pi, (math.pi / 2) / math.sqrt(2) ** (scale - 1)
    for u in range(4):
        k = frequency * np.array([math.cos(u * math.pi / 4), math.sin(u * math.pi / 4)])
        for row in range(7):
            for column in range(7):
                z = np.array([column - 3, row - 3])
                wave = np.exp(1j * (k @ z)) - math.exp(-(sigma**2) / 2)
                value = (k @ k) / sigma**2 * math.exp(-(k @ k) * (z @ z) / (2 * sigma**2)) * wave
                assert found[u, row, column] == pytest.approx(value.real, abs=1e-12)


def test_the_reference_bank_fills_zero_to_one() -> None:
    found = bank(1, "reference")
    np.testing.assert_allclose(found.min(axis=(1, 2)), 0)
    np.testing.assert_allclose(found.max(axis=(1, 2)), 1)
    narrow, wide = bank(1, "reference"), bank(1)
    assert np.abs(narrow[0] / narrow[0].max() - wide[0] / wide[0].max()).max() > 0.1  # another sigma, not only a scale


def test_orientations_are_quarter_turns_of_each_other() -> None:
    found = bank(2)
    np.testing.assert_allclose(found[2], found[0].T, atol=1e-12)
    np.testing.assert_allclose(found[3], found[1][:, ::-1], atol=1e-12)


def test_a_gabor_convolution_is_channel_by_channel() -> None:
    torch.manual_seed(0)
    layer = GaborConvolution(8, 1, 2, "paper")
    picture = torch.zeros(1, 8, 16, 16)
    picture[0, 5] = torch.randn(16, 16)
    found = layer(picture)
    assert found.shape == (1, 8, 8, 8)
    assert [bool(found[0, channel].abs().max() > 0) for channel in range(8)] == [channel == 5 for channel in range(8)]
    kernel = layer.weight[1, 0] * torch.from_numpy(bank(1)[1]).float()  # channel 5: second filter, second orientation
    expected = torch.nn.functional.conv2d(picture[:, 5:6], kernel[None, None], stride=2, padding=3)
    torch.testing.assert_close(found[:, 5:6], expected)


def test_learnt_filters_begin_so_that_signals_keep_their_size() -> None:
    torch.manual_seed(0)
    for variant in ("paper", "reference"):
        found = GaborConvolution(64, 1, 1, variant)(torch.randn(2, 64, 24, 24))
        assert 0.5 < float(found.detach().std()) < 2


def test_parameters_are_those_of_the_paper() -> None:
    """The published network counts about 11.8 million with shared and 17.3 million with separate encoders, unused ones too."""
    parts = parameters(AYANet(3, ChangeConfig()))
    assert stage_channels(2.0) == [32, 48, 80, 160]
    assert parts["conjunctions"] == sum(15 * width**2 + 2 * width for width in (64, 96, 160, 320))
    unused_head = 160 * 640 + 2 * 640 + 640 * 1000 + 1000
    unused_convolution = 64 * 64 * 16 + 64
    shared = sum(parts.values()) + unused_head + unused_convolution
    assert shared == pytest.approx(11.8e6, rel=0.005)
    assert shared + parts["cnn"] + parts["gabor"] + unused_head == pytest.approx(17.3e6, rel=0.01)


def test_ablations_leave_an_encoder_out() -> None:
    both, cnn, gabor = (AYANet(3, ChangeConfig(encoder=name, **SMALL)) for name in ("both", "cnn", "gabor"))  # type: ignore[arg-type]
    assert both.cnn is not None
    assert both.gabor is not None
    assert cnn.gabor is None
    assert gabor.cnn is None
    assert parameters(both)["cnn"] == parameters(cnn)["cnn"]


def test_features_halve_and_both_dates_share_weights() -> None:
    torch.manual_seed(0)
    network = AYANet(4, ChangeConfig(**SMALL)).eval()  # type: ignore[arg-type]
    picture = torch.randn(2, 4, 48, 32)
    features = network.encoded(picture)
    assert [tuple(one.shape[2:]) for one in features] == [(24, 16), (12, 8), (6, 4), (3, 2)]
    assert [one.shape[1] for one in features] == [2 * width for width in stage_channels(0.25)]
    assert network(picture, picture).shape == (2, 2, 48, 32)


def test_conjunction_sees_appearance_and_disappearance() -> None:
    torch.manual_seed(0)
    join = Conjunction(4).eval()
    one, other = torch.randn(2, 1, 4, 8, 8)
    seen: list[torch.Tensor] = []
    join.mix[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    join(one, other)
    parts = seen[0].chunk(6, dim=1)
    expected = [one, other, one - other, other - one, (one - other).abs(), one + other]
    for part, wanted in zip(parts, expected, strict=True):
        torch.testing.assert_close(part, wanted)


@pytest.mark.parametrize("settings", [{}, {"network": "fc_siam_diff", "base": 4}, {"gabor": "reference"}])
def test_any_number_of_bands(settings: dict[str, object]) -> None:
    network = build(ChangeConfig(**{**SMALL, **settings}), {"mean": [3.0] * 13, "deviation": [2.0] * 13}).eval()  # type: ignore[arg-type]
    with torch.no_grad():
        assert network(*torch.randn(2, 1, 13, 32, 32)).shape == (1, 2, 32, 32)


def test_blocks_are_left_out_in_training_only() -> None:
    torch.manual_seed(0)
    stages = EfficientStages(3, 0.25, 1.0, 0.9)
    picture = torch.randn(1, 3, 32, 32)
    stages.eval()
    torch.testing.assert_close(stages(picture)[-1], stages(picture)[-1])
    dropped = stages.blocks[-1].projection.dropout.train()
    kept = [bool(dropped(torch.ones(1, 2, 2, 2)).any()) for _ in range(200)]
    rate = 0.9 * 7 / 16  # the 8th of 16 blocks
    assert abs(np.mean(kept) - (1 - rate)) < 0.15


def test_gains_of_normalisation_begin_at_one() -> None:
    stages = EfficientStages(3, 0.25, 1.0, 0.0)
    norms = [module for module in stages.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms
    assert all(bool((norm.weight == 1).all()) for norm in norms)


def test_weights_come_from_a_folder(tmp_path: Path) -> None:
    from transformers import EfficientNetModel

    torch.manual_seed(1)
    whole = EfficientNetModel(_configuration(3, 0.25, 1.0))
    whole.save_pretrained(tmp_path / "net")
    stages = EfficientStages(3, 0.25, 1.0, 0.0)
    load_weights(stages, str(tmp_path / "net"))
    torch.testing.assert_close(
        stages.blocks[3].depthwise_conv.depthwise_conv.weight,
        whole.encoder.blocks[3].depthwise_conv.depthwise_conv.weight,
    )
    with pytest.raises(InvalidSetting, match=r"do not fit 5 bands"):
        load_weights(EfficientStages(5, 0.25, 1.0, 0.0), str(tmp_path / "net"))
    with pytest.raises(InvalidSetting, match=r"cannot be loaded"):
        load_weights(stages, str(tmp_path / "nothing"))


def test_gabor_answers_more_to_stripes_than_to_noise_of_the_same_strength() -> None:
    """What the bank is for: a period of four pixels is the frequency of its first scale."""
    columns = np.arange(64)
    stripes = np.tile(np.sin(2 * np.pi * columns / 4), (64, 1))
    noise = np.random.default_rng(0).normal(0, stripes.std(), (64, 64))
    kernel = torch.from_numpy(bank(1)[0])[None, None]
    strengths = [
        float(torch.nn.functional.conv2d(torch.from_numpy(picture)[None, None], kernel).std())
        for picture in (stripes, noise)
    ]
    assert strengths[0] > 3 * strengths[1]


def test_grey_is_duplicated_for_the_gabor_encoder() -> None:
    encoder = GaborEncoder([8, 8, 16, 24], "paper").eval()
    found = encoder(torch.randn(1, 1, 32, 32))
    assert [one.shape[1] for one in found] == [8, 8, 16, 24]


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"tile": 100}, "multiple of 16"),
        ({"overlap": 256}, "overlap must be"),
        ({"same": ("crs",)}, "in pairs"),
        ({"encoder": "both_of_them"}, "one of both, cnn, gabor"),
        ({"width": 0.0}, "width must be"),
    ],
)
def test_settings_are_checked(settings: dict[str, object], rule: str) -> None:
    with pytest.raises(InvalidSetting, match=rule):
        ChangeConfig(**settings)  # type: ignore[arg-type]
