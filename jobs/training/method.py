"""What a system gives to be fitted, measured, used and exported: one declaration made of plain functions.

``jobs/<name>/method.py`` makes one :class:`Method`; the system's card names it for the operations ``fit``, ``evaluate`` and
``predict``. The conformance suite in ``tests/jobs/training`` runs on it by itself.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl
import torch

from sensorium.catalog.fields import ArrayField, Field
from sensorium.catalog.selection import Selection
from sensorium.jobs.training import checkpoints, configuration
from sensorium.jobs.training.measures import Figure
from sensorium.jobs.training.operators import Operator
from sensorium.jobs.training.recipe import Phase
from sensorium.jobs.training.samples import Picture, Sample, check_fields, require_fields, samples_of
from sensorium.platform import systems
from sensorium.platform.errors import BrokenPlugin, UserError

if TYPE_CHECKING:
    from sensorium.catalog.dataset import Dataset
    from sensorium.catalog.models import Model

__all__ = [
    "Export",
    "Fitted",
    "Method",
    "Picture",
    "Sample",
    "check_data",
    "load_model",
    "method_of",
    "require_fields",
    "samples_of",
]


@dataclass(frozen=True)
class Fitted:
    """A fitted system that is ready to be used.

    Attributes:
        config: of the system.
        preprocessing: what was fitted besides the weights.
        modules: networks with their weights, in evaluation mode.
        device: that they are on.
    """

    config: Any
    preprocessing: Mapping[str, Any]
    modules: Mapping[str, torch.nn.Module]
    device: torch.device


@dataclass(frozen=True)
class Export:
    """A network that can leave the project.

    Attributes:
        module: takes and returns tensors only.
        inputs: an example of what it takes, by name.
        outputs: names of what it returns.
        batched: names of the inputs and outputs whose first dimension may vary.
    """

    module: torch.nn.Module
    inputs: Mapping[str, torch.Tensor]
    outputs: tuple[str, ...]
    batched: tuple[str, ...] = ()


def _no_pictures(rows: pl.DataFrame, fitted: Fitted) -> Mapping[str, Picture]:  # noqa: ARG001
    return {}


@dataclass(frozen=True)
class Method:
    """How a system is fitted and used.

    Attributes:
        config: the frozen dataclass of its configuration; has ``fit`` (:class:`.FitOptions`) and ``split``
            (:class:`.SplitOptions`), and makes a working default without arguments.
        fields: fields of a sample that a prediction needs, by configuration.
        target: field with the truth, a scalar or an array, by configuration; empty where there is none.
        preprocess: statistics of the training part, JSON types only. Sees nothing else.
        build: networks of a configuration and its preprocessing, with fresh weights.
        phases: of the fit, in order.
        predict: results for samples, in their order: scalars and arrays as ``results`` declares. Raises ``InvalidSample``
            naming sample and field for one that it cannot use.
        score: compares one prediction with the truth of its sample: a small row of scalars or lists, or None where the
            sample has no truth.
        summarise: figures of such rows; each row has ``id`` and ``group`` too.
        results: declarations of the fields of a prediction.
        example: for a configuration and a seed, a few made-up samples that the method can be fitted on within a second, and
            the attributes of their data set; in each of at least two groups.
        modality: of the data sets that it takes, by configuration.
        small: overrides that make a configuration small enough for such samples.
        eligible: predicate for the samples that can be learnt from, by configuration; None for all.
        pictures: drawn from the rows of ``score``; shown with the run.
        confusion: names of the classes where ``score`` gives a row ``confusion`` (counts by predicted class) and ``label``.
        export: the network for ONNX; None where it cannot leave.
        illustrate: draws the prediction of one sample for people: from the fitted system, the sample and its result.
    """

    config: type[Any]
    fields: Callable[[Any], tuple[str, ...]]
    target: Callable[[Any], str]
    preprocess: Callable[[Selection, Any], dict[str, Any]]
    build: Callable[[Any, Mapping[str, Any]], dict[str, torch.nn.Module]]
    phases: Callable[[Any], tuple[Phase, ...]]
    predict: Callable[[Fitted, Sequence[Sample]], list[dict[str, Any]]]
    score: Callable[[Fitted, Sample, Mapping[str, Any]], dict[str, Any] | None]
    summarise: Callable[[pl.DataFrame, Any], dict[str, Figure]]
    results: Callable[[Any], tuple[Field, ...]]
    example: Callable[[Any, int], tuple[list[dict[str, Any]], dict[str, Any]]]
    modality: Callable[[Any], str]
    small: Mapping[str, Any] = field(default_factory=dict)
    eligible: Callable[[Any], pl.Expr] | None = None
    pictures: Callable[[pl.DataFrame, Fitted], Mapping[str, Picture]] = _no_pictures
    confusion: Callable[[Fitted], list[str]] | None = None
    export: Callable[[Fitted], Export] | None = None
    illustrate: Callable[[Fitted, Sample, Mapping[str, Any]], Mapping[str, Picture]] | None = None


def method_of(system: str, operation: str = "fit") -> Method:
    """The method of an installed system.

    Raises:
        UnknownPlugin: no such system.
        UserError: the system is not fitted, or does not offer the operation.
    """
    found = systems.get(system).operation(operation)
    if isinstance(found, Operator):
        raise UserError(f"system {system!r} is an operator: it has no models. Use it as: sensorium predict {system}.")
    if not isinstance(found, Method):
        raise BrokenPlugin(
            f"system {system!r} names a {type(found).__name__} for {operation!r}; it must be a Method "
            f"({__name__}). Repair the system's card."
        )
    return found


def check_data(method: Method | Operator, dataset: Dataset, config: Any, *, labelled: bool) -> None:
    """Make sure, from declarations alone, that a data set has what a method needs.

    Raises:
        InvalidSetting: another modality.
        UnknownField: a field is not there.
    """
    wanted = [*method.fields(config)]
    if labelled and isinstance(method, Method) and method.target(config):
        wanted.append(method.target(config))
    check_fields(dataset, method.modality(config), wanted)


def load_model(model: Model, device: str | torch.device | None = None) -> tuple[Method, Fitted]:
    """A model of the catalog, ready to be used.

    Raises:
        CorruptData: its weights are damaged, or do not fit this version of the system.
    """
    from sensorium.jobs.training.context import alone

    method = method_of(model.system, "predict")
    config = configuration.from_json(method.config, model.configuration)
    tensors, _ = checkpoints.from_bytes(model.weights(), f"model {model.reference}")
    modules = method.build(config, model.preprocessing)
    checkpoints.restore_modules(modules, tensors, f"model {model.reference}")
    return method, ready(config, model.preprocessing, modules, alone(device).device)


def ready(
    config: Any, preprocessing: Mapping[str, Any], modules: Mapping[str, torch.nn.Module], device: torch.device
) -> Fitted:
    """Networks on their device, in evaluation mode."""
    placed = {name: module.to(device).eval() for name, module in modules.items()}
    return Fitted(config, preprocessing, placed, device)


def array_fields(fields: Sequence[Field]) -> list[str]:
    """Names of those that are arrays."""
    return [one.name for one in fields if isinstance(one, ArrayField)]


def png(draw: Picture, width: float = 6.4, height: float = 4.8) -> bytes:
    """A picture as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure.add_subplot())
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()
