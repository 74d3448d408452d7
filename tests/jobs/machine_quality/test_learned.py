"""The learned metrics: their networks, what they correlate, what they refuse, and that they learn."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from matplotlib.figure import Figure

from sensorium.catalog import Catalog
from sensorium.jobs.machine_quality.correlations import krcc, plcc, srcc
from sensorium.jobs.machine_quality.learned.config import NETWORKS, LearnedConfig
from sensorium.jobs.machine_quality.learned.correlations import correlations
from sensorium.jobs.machine_quality.learned.method import method
from sensorium.jobs.machine_quality.learned.network import build, grey_cnn, mobilenet, resnet
from sensorium.jobs.training.configuration import overridden
from sensorium.jobs.training.fit import FitRequest, fit
from sensorium.jobs.training.method import load_model, method_of
from sensorium.platform.errors import InvalidSample, InvalidSetting
from sensorium.platform.settings import Settings
from tests.jobs.training.unfitted import unfitted

SMALL = {"epochs": 1, "width": 0.25, "hidden": 8, "folds": 4, "batch_size": 8}


def crops(samples: int = 2, number: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(samples * 10 + number)
    return (
        torch.rand(samples, number, 3, 32, 48, generator=random),
        torch.rand(samples, number, 3, 32, 48, generator=random),
    )


def network(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return build(LearnedConfig(network=name, width=0.25, hidden=8)).eval()


# -- networks ----------------------------------------------------------------------------------------------------------


def test_encoders_have_as_many_parameters_as_published() -> None:
    """Counts follow from the papers' tables: 0.93 and 11.18 million without classifiers."""
    counts = {}
    for make in (mobilenet, resnet):
        encoder, length = make(1.0)
        counts[make.__name__] = (sum(parameter.numel() for parameter in encoder.parameters()), length)
    assert counts == {"mobilenet": (927_008, 576), "resnet": (11_176_512, 512)}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_score_for_each_sample_whatever_the_size(name: str) -> None:
    model = network(name)
    with torch.no_grad():
        assert model(*crops(3)).shape == (3,)
        assert model(torch.rand(1, 2, 3, 64, 64), torch.rand(1, 2, 3, 64, 64)).shape == (1,)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_subset_is_judged_by_its_mean_features(name: str) -> None:
    model = network(name)
    reference, compressed = crops(1, 3)
    with torch.no_grad():
        whole = model(reference, compressed)
        turned = model(reference.flip(1), compressed.flip(1))
        alone = model(reference[:, :1], compressed[:, :1])
        repeated = model(reference[:, :1].repeat(1, 3, 1, 1, 1), compressed[:, :1].repeat(1, 3, 1, 1, 1))
    torch.testing.assert_close(whole, turned)
    torch.testing.assert_close(alone, repeated)


def test_what_a_pair_network_sees() -> None:
    model = network("mobilenet_pair")
    reference, compressed = crops(1)
    with torch.no_grad():
        before, after = model.encoder(reference[0]), model.encoder(compressed[0])
        expected = model.head(torch.cat([before, after, before - after], dim=1))[:, 0]
        torch.testing.assert_close(model(reference, compressed), expected)


def test_the_grey_network_sees_the_luma_of_the_compressed_crop_only() -> None:
    model = network("grey_cnn")
    reference, compressed = crops(1)
    grey = (
        (compressed * torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1))
        .sum(2, keepdim=True)
        .expand(-1, -1, 3, -1, -1)
    )
    with torch.no_grad():
        expected = model(reference, compressed)
        torch.testing.assert_close(model(torch.zeros_like(reference), compressed), expected)
        torch.testing.assert_close(model(reference, grey), expected, atol=1e-4, rtol=1e-4)
    assert grey_cnn(1.0)[1] == 128


# -- correlations ------------------------------------------------------------------------------------------------------


def test_correlations_are_scipys_and_their_intervals_are_over_images() -> None:
    random = np.random.default_rng(1)
    images = np.repeat(np.arange(12), 5)
    one = random.normal(size=60) + images
    other = one + random.normal(size=60)
    found = correlations(one, other, images)
    assert found["srcc"].value == pytest.approx(scipy.stats.spearmanr(one, other).statistic)
    assert found["plcc"].value == pytest.approx(scipy.stats.pearsonr(one, other).statistic)
    assert found["krcc"].value == pytest.approx(scipy.stats.kendalltau(one, other).statistic)
    for figure in found.values():
        assert figure.low < figure.value < figure.high
        assert figure.units == 12
    finer = correlations(one, other, np.arange(60))
    assert finer["srcc"].units == 60
    # an image's rows go together: fewer units, wider interval
    assert finer["srcc"].high - finer["srcc"].low < found["srcc"].high - found["srcc"].low


def test_two_rows_have_no_correlation() -> None:
    assert np.isnan(correlations([1.0, 2.0], [1.0, 2.0], ["a", "b"])["srcc"].value)


def test_what_does_not_vary_correlates_with_nothing() -> None:
    for function in (srcc, plcc, krcc):
        assert np.isnan(function(np.ones(5), np.arange(5.0)))
        assert np.isnan(function(np.arange(2.0), np.arange(2.0)))


# -- the method --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [{"network": "vgg"}, {"width": 0}, {"width": float("nan")}, {"hidden": 0}, {"target": ""}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidSetting):
        LearnedConfig(**wrong)  # type: ignore[arg-type]


def test_the_system_offers_it() -> None:
    assert method_of("machine_quality") is method


@pytest.fixture
def lake(catalog: Catalog) -> Catalog:
    samples, _ = method.example(LearnedConfig(), 0)
    catalog.create("crops", modality="table").append(samples)
    return catalog


def test_it_learns_how_much_contrast_is_lost(catalog: Catalog) -> None:
    parts = [method.example(LearnedConfig(), seed)[0] for seed in range(4)]
    numbered = enumerate(sample for part in parts for sample in part)
    samples = [{**sample, "id": f"crop-{n}", "image_id": f"image-{n // 2}"} for n, sample in numbered]
    catalog.create("crops", modality="table").append(samples)
    config = overridden(LearnedConfig(), {**SMALL, "epochs": 10, "network": "grey_cnn", "lr": 0.005})
    found = fit(catalog, FitRequest("machine_quality", "crops", config), Settings())
    assert found.figures["srcc"].value > 0.8


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"reference": np.zeros((16, 32, 3), np.uint8)}, r"\[32, 32, 3\]"),
        ({"compressed": np.zeros((32, 32, 3), np.float32)}, "float32"),
        ({"compressed": np.zeros((2, 32, 32, 3), np.uint8)}, "partner"),
        ({"reference": np.zeros((0, 32, 32, 3), np.uint8)}, "crop-0"),
    ],
)
def test_crops_that_are_none_are_refused(lake: Catalog, damage: dict[str, np.ndarray], said: str) -> None:
    report = fit(lake, FitRequest("machine_quality", "crops", overridden(LearnedConfig(), SMALL)), Settings())
    _, fitted = load_model(report.model, "cpu")
    samples, _ = method.example(LearnedConfig(), 0)
    with pytest.raises(InvalidSample, match=said):
        method.predict(fitted, [{**samples[0], **damage}])


def test_a_prediction_shows_both_crops_and_their_difference(catalog: Catalog) -> None:
    _, fitted, samples = unfitted(catalog, "machine_quality")
    (result,) = method.predict(fitted, samples[:1])
    assert method.illustrate is not None
    axes = Figure().add_subplot()
    method.illustrate(fitted, samples[0], result)["crops"](axes)
    shown = np.asarray(axes.images[0].get_array())
    np.testing.assert_array_equal(shown[:, :32], samples[0]["reference"])
    np.testing.assert_array_equal(shown[:, -65:-33], samples[0]["compressed"])
    assert shown[:, -32:].max() == 255  # the difference, enlarged
    assert f"{result['predicted']:.4g}" in axes.get_title()
