"""What a system is to the rest of the platform.

A system is one published method: a folder ``jobs/<name>/`` and an entry point of the group ``sensorium.systems`` that
names a :class:`System`. The object is a declaration; importing it must not import torch. What a system can do it says by the
functions that it gives, each named as ``module:function`` and imported when it is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from sensorium.platform import plugins
from sensorium.platform.errors import UserError

__all__ = ["GROUP", "OPERATIONS", "System", "get"]

GROUP = "sensorium.systems"
#: what a system may offer; each is a command of the same name, but for ``panel``, its own page of the front end, and
#: ``protocol``, the option of ``reproduce`` for experiments of its paper on data that a user brings
OPERATIONS = ("sweep", "fit", "evaluate", "predict", "reproduce", "protocol", "panel")


@dataclass(frozen=True)
class System:
    """A published method.

    Attributes:
        name: as on the command line; the folder's name.
        title: the paper's name for it.
        modality: of the data that it takes.
        needs: which fields or labels the data must have, in words.
        claim: what its paper says it does better, to be shown by an experiment.
        paper: number of the paper among the project's eighteen.
        operations: ``module:function`` for each of :data:`OPERATIONS` that it offers.
        explanation: a paragraph for people: what goes in, what the method does, what comes out, in whose paper.
    """

    name: str
    title: str
    modality: str
    needs: str
    claim: str
    paper: int
    operations: Mapping[str, str] = field(default_factory=dict)
    explanation: str = ""

    def operation(self, name: str) -> Any:
        """The function behind an operation.

        Raises:
            UserError: the system does not offer it.
        """
        if name not in self.operations:
            offered = ", ".join(self.operations) or "nothing yet"
            raise UserError(f"system {self.name!r} cannot {name}; it offers: {offered}.")
        module, _, function = self.operations[name].partition(":")
        return getattr(import_module(module), function)


def get(name: str) -> System:
    """The installed system ``name``.

    Raises:
        UnknownPlugin: there is none.
    """
    system: System = plugins.load(GROUP, name, System)
    return system
