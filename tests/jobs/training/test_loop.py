"""The fit loop: what it ends with does not depend on where it was stopped."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy

from sensorium.catalog import Catalog
from sensorium.jobs.training.checkpoints import Checkpoints, from_bytes, to_bytes
from sensorium.jobs.training.context import alone
from sensorium.jobs.training.loop import PhaseResult, run_phase
from sensorium.jobs.training.options import FitOptions
from sensorium.jobs.training.recipe import Moment, Recipe, Update, Workspace, best_epoch, exhausted, rate
from sensorium.platform.errors import CorruptData, FitDiverged, FitStopped, InvalidSetting
from sensorium.platform.storage import Storage

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    catalog = Catalog(tmp_path_factory.mktemp("lake"))
    catalog.create("waves", modality="series").append(toy.toy_samples())
    return catalog


@pytest.fixture
def recipe(lake: Catalog) -> Callable[..., Recipe]:
    """A fresh recipe, always of the same beginning."""

    def make(**options: Any) -> Recipe:
        config = toy.ToyConfig()
        config = replace(config, fit=replace(config.fit, **{"epochs": 4, **options}))
        selection = lake["waves"].select(fields=["signal", "label"])
        torch.manual_seed(0)
        modules = toy.method.build(config, {})
        preprocessing = toy.method.preprocess(selection, config)
        return toy.method.phases(config)[0].recipe(
            Workspace(config, preprocessing, modules, selection, selection, alone("cpu"))
        )

    return make


def state(recipe: Recipe) -> State:
    return {name: tensor.clone() for name, tensor in recipe.modules["network"].state_dict().items()}


def same(one: State, other: State) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


class _StopAt:
    """Presses Ctrl-C in a step."""

    def __init__(self, recipe: Recipe, step: int) -> None:
        self._inner, self._step = recipe.step, step

    def __call__(self, batch: Any, moment: Moment, update: Update) -> Mapping[str, torch.Tensor]:
        if moment.step == self._step:
            os.kill(os.getpid(), signal.SIGINT)
        return self._inner(batch, moment, update)


def stopped(recipe: Recipe, checkpoints: Checkpoints, step: int, **more: Any) -> None:
    with pytest.raises(FitStopped, match=f"step {step + 1}"):
        run_phase(replace(recipe, step=_StopAt(recipe, step)), alone("cpu"), checkpoints=checkpoints, **more)


@pytest.mark.parametrize("step", [0, 7, 48, 49, 50, 197])
@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_stopped_anywhere_and_resumed_it_ends_the_same(
    recipe: Callable[..., Recipe], tmp_path: Path, step: int, schedule: str
) -> None:
    options = {"schedule": schedule, "plateau_patience": 1, "patience": 3}
    undisturbed = recipe(**options)
    expected = run_phase(undisturbed, alone("cpu"))
    checkpoints = Checkpoints(Storage.at(tmp_path), "run")
    if step >= expected.steps:
        pytest.skip("the fit ends before")
    stopped(recipe(**options), checkpoints, step)
    again = recipe(**options)
    found = run_phase(again, alone("cpu"), checkpoints=checkpoints, resumed=checkpoints.newest())
    assert found == expected
    assert same(state(again), state(undisturbed))


def test_resumed_from_any_earlier_checkpoint_it_ends_the_same(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """As after a crash: the newest checkpoint may be some steps old, and steps are done again."""
    undisturbed = recipe()
    expected = run_phase(undisturbed, alone("cpu"))
    checkpoints = Checkpoints(Storage.at(tmp_path), "run")

    def crash(figures: dict[str, float]) -> None:
        if figures["epoch"] == 3:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        run_phase(recipe(checkpoint_steps=35), alone("cpu"), checkpoints=checkpoints, on_epoch=crash)
    resumed = Checkpoints(Storage.at(tmp_path), "run").newest()
    assert resumed is not None
    assert resumed[1]["step"] == 140
    again = recipe(checkpoint_steps=35)
    found = run_phase(again, alone("cpu"), checkpoints=Checkpoints(Storage.at(tmp_path), "run"), resumed=resumed)
    assert found == expected
    assert same(state(again), state(undisturbed))


def test_a_checkpoint_of_another_number_of_workers_is_refused(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    checkpoints = Checkpoints(Storage.at(tmp_path), "run")
    stopped(recipe(), checkpoints, 3)
    found = checkpoints.newest()
    assert found is not None
    with pytest.raises(InvalidSetting, match="is of a fit on 2 workers, and this one has 1"):
        run_phase(recipe(), alone("cpu"), resumed=(found[0], {**found[1], "world_size": 2}))


def test_it_learns_in_bfloat16_too(recipe: Callable[..., Recipe]) -> None:
    exact, rounded = recipe(), recipe(precision="bfloat16")
    results = [run_phase(each, alone("cpu")) for each in (exact, rounded)]
    assert not same(state(exact), state(rounded))
    assert all(tensor.dtype != torch.bfloat16 for tensor in state(rounded).values())
    assert abs(results[0].history[-1]["accuracy"] - results[1].history[-1]["accuracy"]) < 0.05


def test_the_seed_determines_the_fit(recipe: Callable[..., Recipe]) -> None:
    one, other, third = recipe(), recipe(), recipe(seed=1)
    for each in (one, other, third):
        run_phase(each, alone("cpu"))
    assert same(state(one), state(other))
    assert not same(state(one), state(third))


def test_the_weights_of_the_best_validation_are_kept(recipe: Callable[..., Recipe]) -> None:
    found = recipe()
    scores = iter([0.2, 0.9, 0.4, 0.3])
    seen: list[State] = []

    def measure(outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        seen.append(state(found))
        return {"accuracy": next(scores)}

    result = run_phase(replace(found, measure=measure), alone("cpu"))
    assert result.best == {"epoch": 2.0, "accuracy": 0.9}
    assert same(state(found), seen[1])


def test_it_stops_early(recipe: Callable[..., Recipe]) -> None:
    found = recipe(epochs=10, patience=2)
    scores = iter([0.5, 0.6, 0.6, 0.1, 0.9])
    result = run_phase(replace(found, measure=lambda outputs: {"accuracy": next(scores)}), alone("cpu"))
    assert [figures["epoch"] for figures in result.history] == [1, 2, 3, 4]


def test_without_validation_the_last_weights_stay(recipe: Callable[..., Recipe]) -> None:
    found = replace(recipe(), validation=None, evaluate=None, measure=None)
    result = run_phase(found, alone("cpu"))
    assert (result.best, result.history, result.steps) == (None, [], 4 * 50)


def test_a_figure_that_is_not_there_is_told(recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(InvalidSetting, match="watch must be one of the validation figures accuracy; got 'auroc'"):
        run_phase(recipe(watch="auroc"), alone("cpu"))


def test_a_loss_that_is_not_finite_stops_the_fit(recipe: Callable[..., Recipe]) -> None:
    found = recipe()

    def step(batch: Any, moment: Moment, update: Update) -> Mapping[str, torch.Tensor]:
        loss = found.modules["network"](batch["signal"]).sum() * (float("nan") if moment.step == 5 else 1.0)
        update(loss)
        return {"loss": loss}

    with pytest.raises(FitDiverged, match=r"became nan in step 5 \(epoch 0\).*Lower lr"):
        run_phase(replace(found, step=step), alone("cpu"))


def test_two_optimisers_take_turns_and_touch_only_their_own(recipe: Callable[..., Recipe]) -> None:
    """As generator and discriminator would: the second loss flows through both networks, and only one of them steps."""
    found = recipe(epochs=1)
    first, second = torch.nn.Linear(toy.WINDOW, 4), torch.nn.Linear(4, 1)
    optimisers = {"a": torch.optim.SGD(first.parameters(), lr=0.1), "b": torch.optim.SGD(second.parameters(), lr=0.1)}
    log: list[tuple[bool, bool]] = []

    def step(batch: Any, moment: Moment, update: Update) -> Mapping[str, torch.Tensor]:
        before = [first.weight.detach().clone(), second.weight.detach().clone()]
        loss = second(first(batch["signal"])).pow(2).mean()
        update(loss, "b" if moment.step % 2 else "a")
        log.append((torch.equal(first.weight, before[0]), torch.equal(second.weight, before[1])))
        return {"loss": loss}

    modules = {"first": first, "second": second}
    plain = Recipe(modules, optimisers, found.examples, step, found.options)
    run_phase(plain, alone("cpu"))
    assert set(log[::2]) == {(False, True)}
    assert set(log[1::2]) == {(True, False)}


def test_gradients_are_clipped(recipe: Callable[..., Recipe]) -> None:
    network = torch.nn.Linear(3, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    optimiser = torch.optim.SGD(network.parameters(), lr=1.0)
    Update({"main": optimiser}, alone("cpu"), 0.5, Moment())(network(torch.full((1, 3), 100.0)).sum())
    assert float(network.weight.detach().norm()) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize(
    ("schedule", "warmup", "step", "share"),
    [
        ("constant", 0, 90, 1.0),
        ("linear", 0, 25, 0.75),
        ("linear", 20, 9, 0.5),
        ("linear", 20, 60, 0.5),
        ("cosine", 0, 50, 0.5),
        ("cosine", 0, 100, 0.0),
    ],
)
def test_schedules(schedule: str, warmup: int, step: int, share: float) -> None:
    options = FitOptions(schedule=schedule, warmup_steps=warmup)
    assert rate(options, Moment(step=step, total_steps=100)) == pytest.approx(share, abs=1e-9)


def test_the_plateau_schedule_is_torch_s(recipe: Callable[..., Recipe]) -> None:
    """Against the library's own, which holds state, over random figures."""
    random = np.random.default_rng(0)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=2, threshold=0.0)
    options = FitOptions(schedule="plateau", plateau_factor=0.5, plateau_patience=3)
    moment = Moment()
    for epoch in range(60):
        figure = float(random.random() + 1 / (epoch + 1))
        theirs.step(figure)
        moment.history.append({"epoch": float(epoch + 1), "loss": figure})
        assert rate(options, moment) == pytest.approx(optimiser.param_groups[0]["lr"])


def test_nan_is_never_the_best() -> None:
    options = FitOptions(watch="f", watch_mode="max", patience=2)
    history = [{"epoch": 1.0, "f": float("nan")}, {"epoch": 2.0, "f": 0.1}, {"epoch": 3.0, "f": float("nan")}]
    assert best_epoch(options, history) == 1
    assert not exhausted(options, history)
    assert exhausted(options, [*history, {"epoch": 4.0, "f": 0.1}])


# -- checkpoints ------------------------------------------------------------------------------------------------------


def test_checkpoints_keep_two_and_the_best(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    checkpoints = Checkpoints(Storage.at(tmp_path), "run")
    run_phase(recipe(checkpoint_steps=20, epochs=3), alone("cpu"), checkpoints=checkpoints)
    checkpoints.wait()
    names = sorted(path.name for path in (tmp_path / "checkpoints" / "run").iterdir())
    assert [name for name in names if name.startswith("000")] == [
        "000-0000000120.safetensors",
        "000-0000000140.safetensors",
    ]
    assert len([name for name in names if name.startswith("best-0-")]) <= 2


def test_without_checkpoints_only_the_best_weights_are_kept(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    scores = iter(range(10))
    checkpoints = Checkpoints(Storage.at(tmp_path), "run")
    rising = replace(recipe(epochs=6), measure=lambda outputs: {"accuracy": float(next(scores))})
    run_phase(rising, alone("cpu"), checkpoints=checkpoints)
    assert checkpoints.labels() == ["best-0-6"]


def test_a_full_disk_stops_the_fit_with_a_clear_error(
    recipe: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from sensorium.platform.errors import StorageError

    opened = Path.open

    def full(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if mode == "wb":
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(StorageError, match="the disk is full"):
        run_phase(recipe(checkpoint_steps=5), alone("cpu"), checkpoints=Checkpoints(Storage.at(tmp_path), "run"))


def test_tensors_and_state_survive_their_file() -> None:
    shared = torch.arange(6.0)
    tensors = {"a": shared, "b": shared, "c": shared.view(2, 3).T, "d": torch.tensor(1.5, dtype=torch.bfloat16)}
    found, content = from_bytes(to_bytes(tensors, {"step": 3, "history": [{"a": float("inf")}]}), "it")
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert content == {"step": 3, "history": [{"a": float("inf")}]}


@pytest.mark.parametrize("content", [b"", b"\x80\x04\x95pickle", to_bytes({"a": torch.zeros(9)})[:-4]])
def test_a_damaged_file_is_told(content: bytes) -> None:
    with pytest.raises(CorruptData, match="weights of x is no readable safetensors file"):
        from_bytes(content, "weights of x")


def test_results_are_plain(recipe: Callable[..., Recipe]) -> None:
    assert isinstance(run_phase(recipe(epochs=1), alone("cpu")), PhaseResult)


@pytest.fixture(autouse=True)
def _signals_are_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    assert signal.getsignal(signal.SIGINT) is before
