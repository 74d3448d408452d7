"""Systems without a model: operators, which a configuration alone makes ready for use.

``jobs/<name>/operator.py`` makes one :class:`Operator`; the system's card names it for the operation ``predict``. The
conformance suite in ``tests/jobs/training/test_operators.py`` runs on it by itself. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from sensorium.catalog.fields import Field
from sensorium.jobs.training import configuration
from sensorium.jobs.training.samples import Picture, Sample
from sensorium.platform import plugins, systems
from sensorium.platform.errors import InvalidSetting
from sensorium.platform.systems import System

__all__ = ["Configured", "Operator", "configured", "is_operator", "referred"]

#: parts the name of a system from its settings in a reference; no name of a model holds it
_MARK = "?"


@dataclass(frozen=True)
class Operator:
    """How a system without a model is used: a declaration made of functions.

    Attributes:
        config: the frozen dataclass of its configuration, which makes a working default without arguments.
        fields: fields of a sample that it needs, by configuration.
        modality: of the data sets that it takes, by configuration.
        results: declarations of the fields of a result, by configuration.
        predict: for a configuration and samples, results in their order: scalars and arrays as ``results`` declares. Raises
            ``InvalidSample`` naming sample and field for one that it cannot use.
        example: for a configuration and a seed, a few made-up samples that it can be run on within a second, and the
            attributes of their data set.
        optional: further fields of a sample that it looks at where they are there, by configuration.
        places: fields of the configuration that name folders of this machine; a command may set them, a reference, which may
            come from outside, may not.
        illustrate: draws the result of one sample for people: from the configuration, the sample and its result.
    """

    config: type[Any]
    fields: Callable[[Any], tuple[str, ...]]
    modality: Callable[[Any], str]
    results: Callable[[Any], tuple[Field, ...]]
    predict: Callable[[Any, Sequence[Sample]], list[dict[str, Any]]]
    example: Callable[[Any, int], tuple[list[dict[str, Any]], dict[str, Any]]]
    illustrate: Callable[[Any, Sample, Mapping[str, Any]], Mapping[str, Picture]] | None = None
    optional: Callable[[Any], tuple[str, ...]] = lambda _: ()
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class Configured:
    """An operator with its settings. It can be pickled and sent to a worker, which imports the system itself.

    Attributes:
        system: its name.
        config: of the operator.
    """

    system: str
    config: Any

    @property
    def reference(self) -> str:
        """The system's name, and ``?key=value&…`` with the settings that differ from the defaults."""
        default = dict(configuration.paths(type(self.config)()))
        changed = {path: value for path, value in configuration.paths(self.config) if value != default[path]}
        texts = {path: _text(value) for path, value in sorted(changed.items())}
        return self.system + (_MARK + urlencode(texts) if texts else "")

    def load(self) -> Operator:
        """The operator."""
        operator: Operator = systems.get(self.system).operation("predict")
        return operator


def is_operator(system: System) -> bool:
    """Whether a system predicts without a model."""
    return "predict" in system.operations and isinstance(system.operation("predict"), Operator)


def configured(system: str, settings: Iterable[str] | Mapping[str, Any] = ()) -> Configured:
    """An operator with settings.

    Args:
        system: that is one.
        settings: ``key=value`` texts, or values by key.

    Raises:
        UnknownPlugin: no such system.
        InvalidSetting: it predicts with a model; no such field, or a value that it cannot have.
    """
    found = systems.get(system)
    if not is_operator(found):
        raise InvalidSetting(f"system {system!r} predicts with a fitted model. Name one: sensorium models list.")
    operator: Operator = found.operation("predict")
    return Configured(system, configuration.overridden(operator.config(), settings))


def referred(reference: str) -> Configured | None:
    """The operator that a reference means, such as ``shape_tree?iterations=5``; None where it is for a model.

    Raises:
        InvalidSetting: no such field, a value that it cannot have, or a folder of this machine.
    """
    name, _, query = reference.partition(_MARK)
    if name not in plugins.names(systems.GROUP) or not is_operator(systems.get(name)):
        return None
    found = configured(name, dict(parse_qsl(query, keep_blank_values=True)))
    operator = found.load()
    default = operator.config()
    for place in operator.places:
        if getattr(found.config, place) != getattr(default, place):
            raise InvalidSetting(
                f"setting {place!r} of {name} names a folder of this machine: only a command may. Leave it out."
            )
    return found


def _text(value: Any) -> str:
    """A value as ``--set`` takes it."""
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
