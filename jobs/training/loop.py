"""The one fit loop: epochs of steps, validation, checkpoints, early stopping, for one phase of any system.

Everything that decides how a fit goes on is either in the checkpoint (weights, optimisers, validation figures, position) or a
pure function of it (order of examples, noise, learning rate), so that a fit that was stopped anywhere ends as if it had not been.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from sensorium.jobs.training import checkpoints as stored
from sensorium.jobs.training.checkpoints import Checkpoints
from sensorium.jobs.training.context import Context
from sensorium.jobs.training.examples import Examples, ExampleStream, to_device
from sensorium.jobs.training.load import Load
from sensorium.jobs.training.recipe import Evaluate, Moment, Recipe, Update, best_epoch, diverged, exhausted, rate
from sensorium.platform.errors import FitStopped, InvalidSetting
from sensorium.platform.progress import Bar, Progressed, progress

__all__ = ["Curves", "NoCurves", "PhaseResult", "evaluated", "run_phase"]

logger = logging.getLogger(__name__)

#: odd multipliers that spread (seed, phase, step, rank) over 64 bits
_MIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93)
_MASK = (1 << 63) - 1
#: seconds between two movements of the progress bar
_TOLD_EVERY_S = 0.2
_UNIT = "steps"


class Curves(Protocol):
    """Where a fit's figures go."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """``values`` after ``step`` steps of the whole fit."""

    def tell(self, progressed: Progressed) -> None:
        """How far the phase is, several times a second: for whoever watches from another process."""


class NoCurves:
    """Figures that nobody asked for."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Forget them."""

    def tell(self, progressed: Progressed) -> None:
        """Nobody watches."""


@dataclass(frozen=True)
class PhaseResult:
    """How a phase ended.

    Attributes:
        steps: that were done.
        history: validation figures by epoch.
        best: the entry of ``history`` whose weights the modules have now; None if there was no validation.
    """

    steps: int
    history: list[dict[str, float]]
    best: dict[str, float] | None


def run_phase(
    recipe: Recipe,
    context: Context,
    *,
    number: int = 0,
    before: int = 0,
    label: str = "",
    checkpoints: Checkpoints | None = None,
    resumed: tuple[Mapping[str, torch.Tensor], Mapping[str, Any]] | None = None,
    curves: Curves | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> PhaseResult:
    """Run a phase to its end; the modules then have the weights of the best validation, or the last ones.

    Args:
        recipe: of the phase.
        context: this worker.
        number: of the phase, counted from 0.
        before: steps of the phases before it, for the curves.
        label: put before the names of the curves.
        checkpoints: where to write them; None for none.
        resumed: a checkpoint of this phase to go on from.
        curves: where figures go.
        on_epoch: called with the figures of each validation, such as to report a trial.

    Raises:
        FitDiverged: the loss is not finite.
        FitStopped: Ctrl-C; a checkpoint was written.
    """
    return _Phase(recipe, context, number, before, label, checkpoints, curves or NoCurves(), on_epoch).run(resumed)


def evaluated(
    examples: Examples,
    evaluate: Evaluate,
    modules: Mapping[str, torch.nn.Module],
    context: Context,
    batch_size: int,
    stream: ExampleStream | None = None,
) -> dict[str, np.ndarray]:
    """Outputs for all examples, in their order: each worker computes its part, all get everything."""  # fmt: skip
    stream = stream or _plain_stream(examples, batch_size, context, 2048)
    outputs: dict[str, list[np.ndarray]] = {}
    training = {name: module.training for name, module in modules.items()}
    for module in modules.values():
        module.eval()
    try:
        with torch.no_grad():
            for batch in stream.epoch():
                for name, tensor in evaluate(to_device(batch, context.device)).items():
                    outputs.setdefault(name, []).append(tensor.detach().float().cpu().numpy())
    finally:
        for name, module in modules.items():
            module.train(training[name])
    return context.interleaved({name: np.concatenate(parts) for name, parts in outputs.items()})


def _plain_stream(examples: Examples, batch_size: int, context: Context, memory_mb: int) -> ExampleStream:
    return ExampleStream(
        examples,
        batch_size,
        shuffle=False,
        rank=context.rank,
        world_size=context.world_size,
        memory_mb=memory_mb,
    )


class _Phase:
    """The moving parts of :func:`run_phase`."""

    def __init__(
        self,
        recipe: Recipe,
        context: Context,
        number: int,
        before: int,
        label: str,
        checkpoints: Checkpoints | None,
        curves: Curves,
        on_epoch: Callable[[dict[str, float]], None] | None,
    ) -> None:
        self._recipe, self._context, self._number, self._before = recipe, context, number, before
        self._label, self._checkpoints, self._curves, self._on_epoch = label, checkpoints, curves, on_epoch
        self._options = recipe.options
        options = self._options
        self._stream = ExampleStream(
            recipe.examples,
            options.batch_size,
            shuffle=True,
            seed=options.seed,
            rank=context.rank,
            world_size=context.world_size,
            memory_mb=options.memory_mb,
        )
        self._moment = Moment(total_steps=sum(self._stream.batches(epoch) for epoch in range(options.epochs)))
        self._base = {name: [g["lr"] for g in o.param_groups] for name, o in recipe.optimisers.items()}
        self._update = Update(recipe.optimisers, context, options.clip_norm, self._moment)
        self._validation = (
            _plain_stream(recipe.validation, options.batch_size, context, options.memory_mb)
            if recipe.validation is not None and recipe.evaluate is not None
            else None
        )
        self._position = 0  # batches of the present epoch that are done
        self._best: stored.Tensors | None = None
        self._saved_at = time.monotonic()
        self._meter = _Meter()
        self._load = Load()

    def run(self, resumed: tuple[Mapping[str, torch.Tensor], Mapping[str, Any]] | None) -> PhaseResult:
        if resumed is not None:
            self._restore(*resumed)
        moment, options = self._moment, self._options
        title = f"fit {self._label.rstrip('/')}".strip()
        shown = progress(title, total=moment.total_steps, unit=_UNIT) if self._context.first else nullcontext()
        with _interrupts() as interrupted, shown as bar:
            told = _Told(title, bar, self._curves if self._context.first else NoCurves(), moment.step)
            while moment.epoch < options.epochs and not exhausted(options, moment.history):
                for batch in self._stream.epoch(moment.epoch, self._position):
                    self._step(to_device(batch, self._context.device))
                    told.step(moment)
                    if interrupted():
                        self._stop()
                    if self._due():
                        self._save()
                self._end_epoch()
                if interrupted():
                    self._stop()
        best = best_epoch(options, moment.history) if moment.history else None
        if best is not None and self._best is not None:
            stored.restore_modules(self._recipe.modules, self._best, "the best weights of this fit")
        return PhaseResult(moment.step, list(moment.history), moment.history[best] if best is not None else None)

    def _step(self, batch: Any) -> None:
        moment, context = self._moment, self._context
        context.seed(_mixed(self._options.seed, self._number, moment.step, context.rank))
        share = rate(self._options, moment)
        for name, optimiser in self._recipe.optimisers.items():
            for group, lr in zip(optimiser.param_groups, self._base[name], strict=True):
                group["lr"] = lr * share
        with context.autocast(self._options.precision):
            figures = self._recipe.step(batch, moment, self._update)
        moment.step += 1
        self._position += 1
        self._meter.add(figures)
        if moment.step % self._options.log_steps == 0:
            self._log(share)

    def _log(self, share: float) -> None:
        if not self._context.first:
            return
        figures = self._meter.read()
        for name, value in figures.items():
            if name.startswith("loss") and not np.isfinite(value):
                raise diverged(value, self._moment)
        entry = {f"{self._label}train/{name}": value for name, value in figures.items()}
        entry[f"{self._label}lr"] = share * self._options.lr
        entry |= self._load.read(self._moment.step, self._options.batch_size, self._context.device)
        self._curves.log(self._before + self._moment.step, entry)

    def _end_epoch(self) -> None:
        moment, options = self._moment, self._options
        moment.epoch += 1
        self._position = 0
        last = moment.epoch >= options.epochs
        if self._validation is not None and (last or moment.epoch % options.validate_every == 0):
            self._validate()
        if self._checkpoints is not None and (
            options.checkpoint_epochs and moment.epoch % options.checkpoint_epochs == 0
        ):
            self._save()

    def _validate(self) -> None:
        recipe, moment, context = self._recipe, self._moment, self._context
        if recipe.validation is None or recipe.evaluate is None or recipe.measure is None:
            return
        context.broadcast_modules(recipe.modules, buffers_only=True)
        started = time.monotonic()
        outputs = evaluated(
            recipe.validation, recipe.evaluate, recipe.modules, context, self._options.batch_size, self._validation
        )
        figures = {name: float(value) for name, value in recipe.measure(outputs).items()}
        moment.history.append({"epoch": float(moment.epoch), **figures})
        if best_epoch(self._options, moment.history) == len(moment.history) - 1:
            tensors = stored.module_tensors(recipe.modules)
            self._best = {key: tensor.detach().to("cpu", copy=True) for key, tensor in tensors.items()}
            if self._checkpoints is not None and context.first:
                self._checkpoints.keep_best(f"best-{self._number}-{moment.epoch}", self._best)
        if context.first:
            named = {f"{self._label}validation/{name}": value for name, value in figures.items()}
            named[f"{self._label}epoch"] = float(moment.epoch)
            self._curves.log(self._before + moment.step, named)
        logger.debug("validation of epoch %d in %.2f s: %s", moment.epoch, time.monotonic() - started, figures)
        if self._on_epoch is not None:
            self._on_epoch(dict(moment.history[-1]))

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def _due(self) -> bool:
        options = self._options
        if self._checkpoints is None:
            return False
        by_steps = options.checkpoint_steps and self._moment.step % options.checkpoint_steps == 0
        by_time = options.checkpoint_minutes and time.monotonic() - self._saved_at > options.checkpoint_minutes * 60
        return bool(by_steps or by_time)

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        if self._checkpoints is None or not self._context.first:
            return
        moment = self._moment
        tensors = {f"modules/{name}": tensor for name, tensor in stored.module_tensors(self._recipe.modules).items()}
        rest = {}
        for name, optimiser in self._recipe.optimisers.items():
            held, rest[name] = stored.optimiser_state(optimiser, f"optimisers/{name}")
            tensors |= held
        best = best_epoch(self._options, moment.history) if moment.history else None
        label = "" if best is None else f"best-{self._number}-{int(moment.history[best]['epoch'])}"
        state = {
            "phase": self._number,
            "before": self._before,
            "epoch": moment.epoch,
            "step": moment.step,
            "position": self._position,
            "history": moment.history,
            "best": label,
            "optimisers": rest,
            "world_size": self._context.world_size,
            "meter": self._meter.state(),
        }
        self._checkpoints.save(self._number, moment.step, tensors, state, needs=label)

    def _restore(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        recipe, moment = self._recipe, self._moment
        if state["world_size"] != self._context.world_size:
            raise InvalidSetting(
                f"the checkpoint is of a fit on {state['world_size']} workers, and this one has {self._context.world_size}: "
                "the examples would be dealt out differently. Resume on as many."
            )
        own = {name.partition("/")[2]: tensor for name, tensor in tensors.items() if name.startswith("modules/")}
        stored.restore_modules(recipe.modules, own, "the checkpoint")
        for name, optimiser in recipe.optimisers.items():
            stored.restore_optimiser(optimiser, f"optimisers/{name}", tensors, state["optimisers"][name])
        moment.epoch, moment.step = state["epoch"], state["step"]
        moment.history[:] = state["history"]
        self._position = state["position"]
        self._meter.load(state["meter"])
        if state["best"] and self._checkpoints is not None:
            self._best = self._checkpoints.kept(state["best"])
        logger.info("going on at epoch %d, step %d", moment.epoch, moment.step)

    def _stop(self) -> None:
        self._save()
        if self._checkpoints is not None:
            self._checkpoints.wait()
        raise FitStopped(f"stopped at epoch {self._moment.epoch}, step {self._moment.step}.")


class _Told:
    """Tells the progress bar of steps, and who watches from elsewhere, not more often than anybody could see."""

    def __init__(self, title: str, bar: Bar | None, curves: Curves, step: int) -> None:
        self._title, self._bar, self._curves, self._step, self._at = title, bar, curves, 0, 0.0
        if bar is not None and step:
            bar.advance(step)
            self._step = step

    def step(self, moment: Moment) -> None:
        now = time.monotonic()
        if self._bar is None or now - self._at < _TOLD_EVERY_S:
            return
        self._bar.advance(moment.step - self._step)
        self._step, self._at = moment.step, now
        last = moment.history[-1] if moment.history else {}
        note = "  ".join(f"{name} {value:.4g}" for name, value in last.items() if name != "epoch")
        self._bar.note(note)
        self._curves.tell(Progressed(self._title, moment.total_steps, _UNIT, moment.step, note))


class _Meter:
    """Means of figures since the last reading, kept on the device so that no step waits for it."""

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self._count = 0

    def add(self, figures: Mapping[str, torch.Tensor]) -> None:
        for name, value in figures.items():
            value = value.detach().float()
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._count += 1

    def read(self) -> dict[str, float]:
        means = {name: float(value) / max(1, self._count) for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        return means

    def state(self) -> dict[str, Any]:
        return {"sums": {name: float(value) for name, value in self._sums.items()}, "count": self._count}

    def load(self, state: Mapping[str, Any]) -> None:
        self._sums = {name: torch.tensor(value) for name, value in state["sums"].items()}
        self._count = state["count"]


def _mixed(*numbers: int) -> int:
    """One seed of several numbers."""
    value = 0
    for number, factor in zip(numbers, _MIX, strict=True):
        value = ((value ^ (number + 1)) * factor) & ((1 << 64) - 1)
        value ^= value >> 29
    return value & _MASK


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, asked between steps; pressed twice it ends the process at once."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set
        return

    def note(number: int, frame: Any) -> None:  # noqa: ARG001 - the signature is signal's
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
