"""What a system gives the fit loop: its step, its optimisers, its validation, as plain functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from sensorium.catalog.selection import Selection
from sensorium.jobs.training.context import Context
from sensorium.jobs.training.examples import Examples
from sensorium.jobs.training.options import FitOptions
from sensorium.platform.errors import FitDiverged, InvalidSetting

__all__ = ["MAIN", "Evaluate", "Measure", "Moment", "Phase", "Recipe", "Step", "Update", "Workspace", "rate"]

#: the optimiser of a recipe that has only one
MAIN = "main"


@dataclass
class Moment:
    """Where a fit stands.

    Attributes:
        epoch, step: passes and optimiser steps that are done, of this phase.
        total_steps: steps if the phase is not stopped early.
        history: validation figures by epoch (an epoch that was not validated has none); ``epoch`` in them is their own.
    """

    epoch: int = 0
    step: int = 0
    total_steps: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


class Update:
    """Turns a loss into a step of an optimiser: backward, mean over the workers, clipping, step."""

    def __init__(
        self, optimisers: Mapping[str, torch.optim.Optimizer], context: Context, clip_norm: float, moment: Moment
    ) -> None:
        self._optimisers, self._context, self._clip, self._moment = optimisers, context, clip_norm, moment

    def __call__(self, loss: torch.Tensor, optimiser: str = MAIN) -> None:
        """Step ``optimiser`` down the gradient of ``loss``, a mean over this worker's examples.

        Raises:
            FitDiverged: the loss is not finite.
        """
        if loss.device.type == "cpu" and not math.isfinite(float(loss.detach())):
            raise diverged(float(loss.detach()), self._moment)
        chosen = self._optimisers[optimiser]
        parameters = [parameter for group in chosen.param_groups for parameter in group["params"]]
        chosen.zero_grad(set_to_none=True)
        loss.backward()
        self._context.average_gradients(parameters)
        if self._clip:
            torch.nn.utils.clip_grad_norm_(parameters, self._clip)
        chosen.step()


def diverged(loss: float, moment: Moment) -> FitDiverged:
    """The error for a loss that is not finite any more."""
    return FitDiverged(
        f"the loss became {loss} in step {moment.step} (epoch {moment.epoch}). Lower lr, clip gradients with clip_norm, or "
        "look for samples with extreme values."
    )


#: (batch on the device, moment, update) -> figures for the curves, detached scalars
Step = Callable[[Any, Moment, Update], Mapping[str, torch.Tensor]]
#: batch on the device -> outputs per example [B, ...], in evaluation mode and without gradients
Evaluate = Callable[[Any], Mapping[str, torch.Tensor]]
#: outputs of all validation examples -> figures
Measure = Callable[[Mapping[str, np.ndarray]], Mapping[str, float]]


@dataclass(frozen=True)
class Recipe:
    """How one phase of a fit learns.

    Attributes:
        modules: that are trained; they are in training mode during steps.
        optimisers: by name; ``main`` is the one that ``update(loss)`` takes. Their ``lr`` is set to the schedule's share of
            what it was when the recipe was made.
        examples: to learn from.
        step: computes losses and calls ``update`` for each of its optimisers.
        options: of this phase.
        validation, evaluate, measure: examples, their outputs, and figures of those; None for no validation.
    """

    modules: Mapping[str, torch.nn.Module]
    optimisers: Mapping[str, torch.optim.Optimizer]
    examples: Examples
    step: Step
    options: FitOptions
    validation: Examples | None = None
    evaluate: Evaluate | None = None
    measure: Measure | None = None

    def __post_init__(self) -> None:
        given = [self.validation is not None, self.evaluate is not None, self.measure is not None]
        if any(given[1:]) and not all(given[1:]):
            raise InvalidSetting("a recipe gives evaluate and measure together, or neither.")


@dataclass(frozen=True)
class Workspace:
    """What a system makes its recipe from, on each worker.

    Attributes:
        config: of the system.
        preprocessing: fitted on the training part.
        modules: the system's networks, on the device; earlier phases may have trained them.
        train, validation: the two parts of the data (None: nothing is kept for validation).
        context: this worker.
    """

    config: Any
    preprocessing: Mapping[str, Any]
    modules: Mapping[str, torch.nn.Module]
    train: Selection
    validation: Selection | None
    context: Context


@dataclass(frozen=True)
class Phase:
    """A part of a fit with its own recipe; phases follow one another."""

    name: str
    recipe: Callable[[Workspace], Recipe]


def rate(options: FitOptions, moment: Moment) -> float:
    """The learning rate's share of ``lr`` at a moment: a pure function, so that resuming needs no state."""
    rise = min(1.0, (moment.step + 1) / options.warmup_steps) if options.warmup_steps else 1.0
    after = max(1, moment.total_steps - options.warmup_steps)
    done = min(1.0, max(0.0, (moment.step - options.warmup_steps) / after))
    if options.schedule == "linear":
        return rise * (1.0 - done)
    if options.schedule == "cosine":
        return rise * 0.5 * (1.0 + math.cos(math.pi * done))
    if options.schedule == "plateau":
        return rise * options.plateau_factor ** _plateaus(options, moment)
    return rise


def better(options: FitOptions, figure: float, than: float) -> bool:
    """Whether a validation figure is an improvement; NaN never is."""
    return figure < than if options.watch_mode == "min" else figure > than


def best_epoch(options: FitOptions, history: list[dict[str, float]]) -> int | None:
    """Index in ``history`` of the best validation; the earliest of equals."""
    best: int | None = None
    for index, figures in enumerate(history):
        if options.watch not in figures:
            known = ", ".join(sorted(set(figures) - {"epoch"}))
            raise InvalidSetting(f"watch must be one of the validation figures {known}; got {options.watch!r}.")
        figure = figures[options.watch]
        if not math.isnan(figure) and (best is None or better(options, figure, history[best][options.watch])):
            best = index
    return best


def exhausted(options: FitOptions, history: list[dict[str, float]]) -> bool:
    """Whether ``patience`` epochs went by without improvement."""
    if not options.patience or not history:
        return False
    best = best_epoch(options, history)
    since = history[-1]["epoch"] - (history[best]["epoch"] if best is not None else 0)
    return since >= options.patience


def _plateaus(options: FitOptions, moment: Moment) -> int:
    """How often ``plateau_patience`` epochs in a row have brought nothing."""
    count, waited, best = 0, 0, math.nan
    for figures in moment.history:
        figure = figures.get(options.watch, math.nan)
        if math.isnan(best) or better(options, figure, best):
            best, waited = figure, 0
            continue
        waited += 1
        if waited >= options.plateau_patience:
            count, waited = count + 1, 0
    return count
