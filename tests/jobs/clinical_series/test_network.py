"""The networks: order of samples does not count, what is hidden changes only what it should, every variant learns."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.ensemble import HistGradientBoostingClassifier

from sensorium.jobs.clinical_series.baselines import FEATURES, summary_features
from sensorium.jobs.clinical_series.config import ClinicalConfig
from sensorium.jobs.clinical_series.drawing import draw_graph, save_graph
from sensorium.jobs.clinical_series.graph import FlatGraph, HierarchicalGraph, cluster_variables
from sensorium.jobs.clinical_series.network import MVMformer, build, parameter_count
from sensorium.jobs.clinical_series.ragged import RaggedBatch, collate
from sensorium.platform.errors import InvalidSetting

GROUPS = (0, 0, 1, 1, 2, 2)
SMALL = ClinicalConfig(
    lengths=((5.0, 9.0), (13.0, 33.0)),
    heads=4,
    time_dim=16,
    value_dim=8,
    hidden=12,
    reference_points=4,
    dropout=0.0,
    statics=(),
)
#: Tables 3 and 4 of the paper, and the networks to compare with
VARIANTS: dict[str, dict[str, Any]] = {
    "ours": {},
    "table 3, 1": {"attention": "vanilla", "multi_scale": False, "value_unit": False, "density_unit": False},
    "table 3, 2": {"multi_scale": False, "value_unit": False, "density_unit": False},
    "table 3, 3": {"value_unit": False, "density_unit": False},
    "table 3, without value unit": {"value_unit": False},
    "table 3, without density unit": {"density_unit": False},
    "table 3, 6": {"attention": "vanilla", "multi_scale": False},
    "table 4, 1": {"graph": "single"},
    "table 4, 2": {"graph": "clustered"},
    "table 4, 3": {"graph": "affinity"},
    "statics": {"statics": ("age", "gender")},
    "gru_d": {"architecture": "gru_d"},
    "triplet_transformer": {"architecture": "triplet_transformer"},
}
Samples = Callable[..., list[dict[str, Any]]]


def network(**changes: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return build(replace(SMALL, **changes), 6, GROUPS).eval()


def batch_of(samples: list[dict[str, Any]], **changes: Any) -> RaggedBatch:
    return collate(samples, 6, statics=changes.get("statics", ()))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_has_a_finite_loss_and_gradients_of_all_its_parameters(make_samples: Samples, name: str) -> None:
    samples = [{**sample, "age": 3.0} for sample in make_samples(5)]
    batch = batch_of(samples, **VARIANTS[name])
    net = network(**VARIANTS[name]).train()
    logits = net(batch)
    assert logits.shape == (5,)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor([0.0, 1, 0, 1, 1]))
    loss.backward()
    assert loss.isfinite()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.abs().max() > 0, key
    assert parameter_count(net) == sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_can_learn_a_few_samples_by_heart(make_samples: Samples, name: str) -> None:
    samples = [{**sample, "age": float(index)} for index, sample in enumerate(make_samples(6, most=30))]
    batch = batch_of(samples, **VARIANTS[name])
    truth = torch.tensor([0.0, 1, 0, 1, 1, 0])
    net = network(**VARIANTS[name]).train()
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(net(batch), truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.2


@pytest.mark.parametrize("name", VARIANTS)
def test_the_order_and_company_of_samples_do_not_count(make_samples: Samples, name: str) -> None:
    samples = [{**sample, "age": float(index)} for index, sample in enumerate(make_samples(6))]
    net = network(**VARIANTS[name])
    with torch.no_grad():
        together = net(batch_of(samples, **VARIANTS[name]))
        order = [3, 0, 5, 1, 4, 2]
        mixed = net(batch_of([samples[place] for place in order], **VARIANTS[name]))
        alone = torch.cat([net(batch_of([sample], **VARIANTS[name])) for sample in samples])
    torch.testing.assert_close(mixed, together[order], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["ours", "gru_d", "triplet_transformer"])
def test_samples_without_observations_get_an_answer(make_samples: Samples, name: str) -> None:
    empty: dict[str, Any] = {"times": [], "variables": [], "values": []}
    net = network(**VARIANTS[name])
    with torch.no_grad():
        assert net(batch_of([empty, *make_samples(2), empty])).isfinite().all()
        lonely = net(batch_of([empty, empty]))
    assert lonely.isfinite().all()
    assert lonely[0] == lonely[1]


def nodes_of(net: MVMformer, batch: RaggedBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """What goes into the graph: [B, K, C] and [B, K]."""
    seen: list[Any] = []
    handle = net.graph_part.register_forward_pre_hook(lambda _module, args: seen.append(args))
    with torch.no_grad():
        net(batch)
    handle.remove()
    return seen[0]


def test_hiding_a_variable_changes_only_its_own_node(make_samples: Samples) -> None:
    samples = make_samples(4)
    net = network()
    assert isinstance(net, MVMformer)
    nodes, present = nodes_of(net, collate(samples, 6))
    less, fewer = nodes_of(net, collate(samples, 6, hidden=[1]))
    others = [0, 2, 3, 4, 5]
    torch.testing.assert_close(less[:, others], nodes[:, others], atol=1e-5, rtol=1e-5)
    assert torch.equal(fewer[:, others], present[:, others])
    assert not fewer[:, 1].any()
    assert present[:, 1].any()


@pytest.mark.parametrize("kind", ["semantic", "single", "affinity"])
def test_what_an_absent_variable_would_hold_does_not_count(kind: str) -> None:
    made = network(graph=kind)
    assert isinstance(made, MVMformer)
    graph = made.graph_part
    x, present = torch.randn(3, 6, 12), torch.tensor([[1.0, 0, 1, 1, 1, 1]]).expand(3, -1)
    other = x.clone()
    other[:, 1] = 7
    torch.testing.assert_close(graph(x, present), graph(other, present))
    assert not torch.allclose(graph(x, torch.ones(3, 6)), graph(other, torch.ones(3, 6)))


def test_measurements_meet_within_their_organ_only() -> None:
    graph = HierarchicalGraph(4, GROUPS, 0.0)
    weights, organs = graph.adjacency()
    member = np.array([*GROUPS, 0, 1, 2])
    assert weights.shape == (9, 9)
    assert organs.shape == (3, 3)
    assert ((weights > 0) == (member[:, None] == member[None, :])).all()
    assert np.allclose(weights, weights.T)
    assert (organs > 0).all()
    assert (organs < 1).all()


def test_edges_between_variables_of_an_organ_reach_the_prediction() -> None:
    graph = HierarchicalGraph(4, GROUPS, 0.0)
    graph(torch.randn(2, 6, 4), torch.ones(2, 6)).sum().backward()
    assert graph.edges.grad is not None
    assert graph.edges.grad[0, 1] != 0
    assert graph.edges.grad[0, 2] == 0


def test_affinity_fixes_the_weight_within_an_organ() -> None:
    weights, organs = FlatGraph(4, 6, GROUPS, 0.0).adjacency()
    alike = np.array(GROUPS)[:, None] == np.array(GROUPS)[None, :]
    assert (weights[alike] == 1).all()
    assert (weights[~alike] < 1).all()
    assert organs.size == 0
    assert (FlatGraph(4, 6, None, 0.0).adjacency()[0] < 1).all()


def test_clusters_join_what_goes_together_in_the_data() -> None:
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(400, 3))
    features = np.exp(hidden[:, [0, 0, 1, 1, 2, 2]] * [1, -1, 1, 1, 1, 2]) + rng.normal(0, 0.05, (400, 6))
    features[rng.random((400, 6)) < 0.3] = np.nan
    found = cluster_variables(features, 3)
    assert len(set(found)) == 3
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert found[4] == found[5]
    assert cluster_variables(features, 1) == (0,) * 6
    assert sorted(cluster_variables(features, 6)) == list(range(6))
    assert len(set(cluster_variables(np.full((20, 5), np.nan), 3))) == 3  # nothing known: still as many as asked for
    with pytest.raises(InvalidSetting, match="from 1 to the 6 variables; got 7"):
        cluster_variables(features, 7)


def test_the_default_network_has_the_size_of_the_paper() -> None:
    config = ClinicalConfig()
    assert config.head_lengths()[2] == (21, 21, 25, 25, 29, 29, 33, 33)
    assert (config.heads, config.time_dim, config.value_dim) == (8, 64, 32)
    assert 100_000 < parameter_count(build(config, 37, [0] * 37)) < 400_000


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"architecture": "lstm"}, "architecture must be one of mvmformer, gru_d, triplet_transformer; got 'lstm'"),
        ({"graph": "none"}, "graph must be one of"),
        ({"attention": "flash"}, "attention must be one of"),
        ({"heads": 0}, "heads must be 1 or more; got 0"),
        ({"heads": 6}, "heads must be a multiple of the lengths"),
        ({"value_dim": 30}, "value_dim must be a multiple of heads = 8; got 30"),
        ({"time_dim": 24}, "time_dim must be a multiple of 2 x heads = 16; got 24"),
        ({"lengths": ()}, "lengths must have one layer"),
        ({"lengths": ((),)}, "lengths must have one layer"),
        ({"lengths": ((0.0,),)}, "above 0 h and finite; got 0.0"),
        ({"single_length": math.inf}, "above 0 h and finite; got inf"),
        ({"reference_points": 1}, "reference_points must be 2 or more; got 1"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\); got 1.0"),
        ({"attention": "vanilla"}, "set multi_scale=false"),
        ({"statics": ("age", "age")}, "each scalar once"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidSetting, match=says):
        ClinicalConfig(**change)


def test_listing_the_system_does_not_import_torch() -> None:
    code = "import sys, sensorium.jobs.clinical_series, sensorium.jobs.clinical_series.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_gru_d_sees_values_masks_and_times(make_samples: Samples) -> None:
    sample = make_samples(1)[0]
    net = network(architecture="gru_d")
    with torch.no_grad():
        plain = net(collate([sample], 6))
        for change in ("values", "times"):
            other = {**sample, change: sample[change] * 1.5}
            assert not torch.allclose(net(collate([other], 6)), plain)


def test_summary_features_are_those_of_each_series(make_samples: Samples) -> None:
    samples = [{**sample, "age": 60 + index} for index, sample in enumerate(make_samples(5))]
    features = summary_features(samples, 6, ("age",))
    assert features.shape == (5, 6 * len(FEATURES) + 1)
    assert features[:, -1].tolist() == [60, 61, 62, 63, 64]
    for row, sample in zip(features, samples, strict=True):
        for variable in range(6):
            mine = sample["variables"] == variable
            found = dict(zip(FEATURES, row[variable * len(FEATURES) :], strict=False))
            times, values = sample["times"][mine], sample["values"][mine]
            assert found["count"] == len(values)
            if not len(values):
                assert np.isnan([found[name] for name in FEATURES[1:]]).all()
                continue
            expected = [values.min(), values.max(), values.mean(), values.std(), values[0], values[-1], times[-1]]
            names = ("minimum", "maximum", "mean", "deviation", "first", "last", "last_time")
            assert [found[name] for name in names] == pytest.approx(expected)
            if len(set(times)) > 1:
                assert found["slope"] == pytest.approx(np.polyfit(times, values, 1)[0])
            else:
                assert np.isnan(found["slope"])
    assert summary_features([], 6).shape == (0, 54)
    known = features[:, ~np.isnan(features).all(axis=0)]
    many, labels = np.repeat(known, 20, axis=0), np.repeat([0, 1, 0, 1, 1], 20)
    trees = HistGradientBoostingClassifier(max_iter=20).fit(many, labels)
    assert (trees.predict(known) == [0, 1, 0, 1, 1]).all()


@pytest.mark.parametrize(("kind", "suffix"), [("semantic", ".png"), ("semantic", ".svg"), ("single", ".png")])
def test_the_learned_graph_is_drawn_with_its_names(tmp_path: Path, kind: str, suffix: str) -> None:
    net = network(graph=kind)
    assert isinstance(net, MVMformer)
    names, organs = [f"var{index}" for index in range(6)], ["Heart", "Lung", "Kidney"]
    figure = draw_graph(*net.graph(), names, organs, GROUPS)
    labels = {text.get_text() for text in figure.axes[0].get_xticklabels()}
    assert labels == {*names, *(organs if kind == "semantic" else ())}
    path = save_graph(tmp_path / f"graph{suffix}", figure)
    if suffix == ".png":
        with Image.open(path) as image:
            assert image.width > 800
    else:
        assert path.read_text().startswith("<?xml")
    with pytest.raises(InvalidSetting, match="as many names"):
        draw_graph(*net.graph(), names[1:], organs, GROUPS)
    with pytest.raises(InvalidSetting, match=r"\.png or \.svg; got 'graph\.gif'"):
        save_graph(tmp_path / "graph.gif", figure)
