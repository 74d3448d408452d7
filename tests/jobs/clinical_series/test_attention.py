"""Attention over tiles equals the definition, written as loops over samples, variables, observations and heads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from sensorium.jobs.clinical_series import attention
from sensorium.jobs.clinical_series.attention import Layer
from sensorium.jobs.clinical_series.config import ClinicalConfig
from sensorium.jobs.clinical_series.ragged import RaggedBatch, collate
from sensorium.jobs.clinical_series.tiles import cut

CONFIG = ClinicalConfig(
    lengths=((5.0, 9.0), (13.0, 33.0)), heads=4, time_dim=16, value_dim=8, hidden=12, reference_points=5, dropout=0.0
)
LENGTHS = CONFIG.head_lengths()[1]
VANILLA = ClinicalConfig(**{**vars(CONFIG), "attention": "vanilla", "multi_scale": False})
Samples = Callable[..., list[dict[str, Any]]]


def layer(config: ClinicalConfig = CONFIG, lengths: tuple[float, ...] = LENGTHS) -> Layer:
    torch.manual_seed(3)
    made: Layer = Layer(config, lengths).double()
    for parameter in made.parameters():  # kernels that differ clearly within a segment
        torch.nn.init.normal_(parameter, std=0.7)
    return made


def batch_of(samples: list[dict[str, Any]]) -> tuple[RaggedBatch, torch.Tensor]:
    batch = collate(samples, 6)
    x = torch.randn(len(batch.times), CONFIG.hidden, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return batch, x


def embedding(made: Layer, head: int, time: torch.Tensor) -> torch.Tensor:
    """Eqs 4-5 of one head and one time: [D]."""
    angle = made.embedding.frequencies[head] * time
    features = torch.cat([angle.cos(), angle.sin()]) / math.sqrt(2 * len(angle))
    mix = made.embedding.mix
    return torch.nn.functional.gelu(features @ mix.weight[head] + mix.bias[head])


def by_definition(made: Layer, config: ClinicalConfig, lengths: tuple[float, ...], batch: RaggedBatch, x: Any) -> Any:
    """[N, value + density] of Eqs 1, 6-12, one number at a time."""
    vanilla = config.attention == "vanilla"
    normed = made.norm(x)
    times = batch.times.double()
    rows = []
    size = config.value_dim // config.heads
    for centre in range(len(times)):
        values, masses = [], []
        for head, length in enumerate(lengths):
            query_of = lambda t, head=head: embedding(made, head, t) @ made.to_query.weight[head]  # noqa: E731
            key_of = lambda t, head=head: embedding(made, head, t) @ made.to_key.weight[head]  # noqa: E731
            near = [
                other
                for other in range(len(times))
                if batch.series[other] == batch.series[centre]
                and (abs(float(times[other] - times[centre])) <= length / 2 + 1e-4)
            ]
            seen = (
                [other for other in range(len(times)) if batch.series[other] == batch.series[centre]]
                if vanilla
                else near
            )
            scores = []
            for other in seen:
                query, key = query_of(times[centre]), key_of(times[other])
                if vanilla:
                    more = made.value.content(normed).view(len(times), 2, config.heads, -1)
                    query, key = (query + more[centre, 0, head]) / math.sqrt(len(query)), key + more[other, 1, head]
                scores.append(query @ key)
            weights = torch.stack(scores).softmax(0)
            if config.value_unit:
                gathered = torch.stack(
                    [made.value.value(normed[other])[head * size : (head + 1) * size] for other in seen]
                )
            else:
                unit = made.value.value
                gathered = torch.stack(
                    [embedding(made, head, times[other]) @ unit.weight[head] + unit.bias[head] for other in seen]
                )
            values.append(weights @ gathered)
            points = [
                times[centre] + length * (-0.5 + place / (config.reference_points - 1))
                for place in range(config.reference_points)
            ]
            mass = torch.zeros(config.reference_points, dtype=torch.float64)
            for other in near:
                mass = mass + torch.stack([query_of(times[other]) @ key_of(point) for point in points]).softmax(0)
            masses.append(mass)
        parts = [torch.cat(values)]
        if made.density is not None:
            parts.append(made.density.embed(torch.cat(masses).log1p()))
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def computed(made: Layer, batch: RaggedBatch, x: torch.Tensor) -> torch.Tensor:
    """The same, by the layer's own parts."""
    inputs: list[torch.Tensor] = []
    handle = made.join.register_forward_pre_hook(lambda _module, args: inputs.append(args[0]))
    made(doubled(batch), x)
    handle.remove()
    return inputs[0]


def doubled(batch: RaggedBatch) -> RaggedBatch:
    return RaggedBatch(
        **{
            name: value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
            for name, value in vars(batch).items()
        }
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_layer_is_as_defined(make_samples: Samples, seed: int) -> None:
    batch, x = batch_of(make_samples(3, most=30, seed=seed))
    made = layer()
    torch.testing.assert_close(
        computed(made, batch, x), by_definition(made, CONFIG, LENGTHS, batch, x), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize(
    "change",
    [{"value_unit": False}, {"density_unit": False}, {"attention": "vanilla", "multi_scale": False}],
    ids=["no value unit", "no density unit", "vanilla"],
)
def test_an_ablated_layer_is_as_defined(make_samples: Samples, change: dict[str, Any]) -> None:
    config = ClinicalConfig(**{**vars(CONFIG), **change})
    lengths = config.head_lengths()[1]
    batch, x = batch_of(make_samples(2, most=24))
    made = layer(config, lengths)
    torch.testing.assert_close(
        computed(made, batch, x), by_definition(made, config, lengths, batch, x), atol=1e-5, rtol=0
    )


def gradients(made: Layer, output: torch.Tensor, x: torch.Tensor) -> list[torch.Tensor]:
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    parameters = [
        p for name, p in made.named_parameters() if name.split(".")[0] in ("embedding", "to_key", "to_query", "value")
    ]
    return list(torch.autograd.grad((output * weights).sum(), [x, *parameters], retain_graph=True))


def test_gradients_are_those_of_the_definition(make_samples: Samples) -> None:
    batch, x = batch_of(make_samples(2, most=20))
    x.requires_grad_()
    made = layer()
    ours = gradients(made, computed(made, batch, x), x)
    true = gradients(made, by_definition(made, CONFIG, LENGTHS, batch, x), x)
    for one, other in zip(ours, true, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("budget", [1, 5_000])
def test_in_parts_is_as_in_one(make_samples: Samples, monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    batch, x = batch_of(make_samples(4))
    x.requires_grad_()
    made = layer()
    whole = computed(made, batch, x)
    expected = gradients(made, whole, x)
    monkeypatch.setattr(attention, "PAIR_BUDGET", budget)
    parts = computed(made, batch, x)
    torch.testing.assert_close(parts, whole)
    for one, other in zip(gradients(made, parts, x), expected, strict=True):
        torch.testing.assert_close(one, other)


def test_large_scores_do_not_overflow(make_samples: Samples) -> None:
    batch, x = batch_of(make_samples(2))
    made = layer().float()
    with torch.no_grad():
        made.to_query.weight.mul_(1e4)
        assert computed(made.double(), batch, x).isfinite().all()
        assert made.float()(batch, x.float()).isfinite().all()


def test_the_borders_of_a_segment_belong_to_it() -> None:
    """Times are whole minutes; L/2 = 2.5 h off is inside, a minute more is outside."""
    for start in np.arange(0, 40, 1 / 60)[:300]:
        times = np.array([start, start + 2.5, start + 5 + 1 / 60])
        batch = collate([{"times": times, "variables": [0, 0, 0], "values": [1.0, 2.0, 3.0]}], 1)
        tiles, _ = cut(batch.times, batch.offsets, 2.5)
        apart = (batch.times[:, None] - batch.times[None, :]).abs() <= 2.5 + attention.BORDER
        assert apart.tolist() == [[True, True, False], [True, True, False], [False, False, True]]
        assert sum(stack.pairs for stack in tiles) >= 5


@pytest.mark.parametrize("hours", [48, 480, 4800])
def test_pairs_grow_with_the_segments_not_with_the_square_of_a_series(hours: int) -> None:
    """Hourly series, ten times and a hundred times as long: padded pairs stay within a few times the true ones."""
    count = 3
    times = torch.arange(hours, dtype=torch.float32).repeat(count)
    offsets = torch.arange(count + 1) * hours
    tiles, rows = cut(times, offsets, 16.5)
    true = count * sum(min(hours, index + 17) - max(0, index - 16) for index in range(hours))
    assert sum(stack.pairs for stack in tiles) < 2.5 * true
    assert sorted(rows.tolist()) == sorted(set(rows.tolist()))


def test_memory_of_a_layer_is_bounded_by_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tensor of pairs is larger than the budget, but for one tile."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    times = np.arange(0, 400, 0.25)
    sample = {"times": times, "variables": np.zeros(len(times), dtype=int), "values": np.sin(times)}
    batch = doubled(collate([sample], 1))
    x = torch.randn(len(times), CONFIG.hidden, dtype=torch.float64)
    budget = 400_000
    monkeypatch.setattr(attention, "PAIR_BUDGET", budget)
    made = layer()
    with Watch():
        made(batch, x).sum().backward()
    pairs = sum(stack.pairs for stack in cut(batch.times, batch.offsets, 16.5)[0])
    assert pairs * CONFIG.heads * CONFIG.reference_points > 10 * budget  # in one piece it would be far beyond
    assert largest <= 1.1 * budget


def test_runs_hold_all_that_is_within_reach(make_samples: Samples) -> None:
    batch, _ = batch_of(make_samples(5, most=60, seed=9))
    tiles, rows = cut(batch.times, batch.offsets, 6.5)
    pairs: dict[int, set[int]] = {}
    for stack in tiles:
        for centres, keys, valid in zip(stack.centres, stack.keys, stack.valid, strict=True):
            for centre in centres.tolist():
                pairs[centre] = set(keys[valid].tolist())
    assert sorted(pairs) == list(range(len(batch.times)))
    for centre, keys in pairs.items():
        same = (batch.series == batch.series[centre]).nonzero().flatten().tolist()
        near = {other for other in same if abs(float(batch.times[other] - batch.times[centre])) <= 6.5 + 1e-4}
        assert near <= keys <= set(same)
    assert len(set(rows.tolist())) == len(batch.times)
    assert cut(batch.times[:0], torch.zeros(2, dtype=torch.int64), 1.0)[0] == []
