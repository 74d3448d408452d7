"""Finding what is installed: the whole plug-in surface on one page.

Everything that can be added from outside is an entry point. Built-in parts are declared in this project's own
``pyproject.toml`` in the same way, so nothing here knows their names.

=========================  ==========================================================================
group                      the object that the entry point names
=========================  ==========================================================================
``sensorium.commands``     a ``typer.Typer`` application; the entry point's name is the command
``sensorium.systems``      a :class:`sensorium.platform.systems.System`
``sensorium.modalities``   a :class:`sensorium.catalog.modality.Modality`
``sensorium.importers``    a :class:`sensorium.catalog.importer.Importer`
``sensorium.codecs``       a :class:`sensorium.jobs.codecs.Codec`
``sensorium.metrics``      a :class:`sensorium.jobs.image_metrics.Metric`
``sensorium.tasks``        a :class:`sensorium.jobs.machine_tasks.Task`
=========================  ==========================================================================

A plug-in is loaded when it is asked for and checked once, at that moment.
"""

from __future__ import annotations

import functools
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from sensorium.platform.errors import BrokenPlugin, UnknownPlugin, close_matches

__all__ = ["load", "load_all", "names"]


@functools.cache
def _group(group: str) -> dict[str, list[EntryPoint]]:
    """The entry points of ``group`` by name; more than one of a name is an error once it is asked for."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=group):
        found.setdefault(point.name, []).append(point)
    return found


def names(group: str) -> list[str]:
    """Sorted names of the plug-ins of ``group``; loads none of them."""
    return sorted(_group(group))


def load(group: str, name: str, kind: type[Any] | None = None) -> Any:
    """The plug-in ``name`` of ``group``.

    ``kind`` is the class that it must be an instance of, where the group has one.

    Raises:
        UnknownPlugin: nothing of that name is installed.
        BrokenPlugin: it is installed, but cannot be imported or is of another kind.
    """
    plugin, origin = _loaded(group, name)
    if kind is not None and not isinstance(plugin, kind):
        raise BrokenPlugin(f"{origin} is a {type(plugin).__name__}, not a {kind.__name__}; see {__name__}.")
    if kind is not None and getattr(plugin, "name", name) != name:
        raise BrokenPlugin(f"{origin} calls itself {plugin.name!r}; give it its entry point's name.")
    return plugin


@functools.cache
def _loaded(group: str, name: str) -> tuple[Any, str]:
    """The object of an entry point, and what to call it in a message."""
    points = _group(group).get(name, [])
    noun = group.rpartition(".")[2]
    if not points:
        raise UnknownPlugin(f"unknown name {name!r} among {noun}. {close_matches(name, _group(group))}".rstrip())
    if len(points) > 1:
        packages = " and ".join(sorted(point.dist.name if point.dist else "an unknown package" for point in points))
        raise BrokenPlugin(f"{noun} plug-in {name!r} is offered by {packages}. Uninstall one of them.")
    point = points[0]
    package = point.dist.name if point.dist else "an unknown package"
    origin = f"{noun} plug-in {name!r} ({point.value}, from {package})"
    try:
        return point.load(), origin
    except Exception as error:  # whatever a foreign module raises on import, name the module
        raise BrokenPlugin(
            f"{origin} cannot be loaded: {type(error).__name__}: {error}. Repair or uninstall {package}."
        ) from error


def load_all(group: str, kind: type[Any] | None = None) -> dict[str, Any]:
    """All plug-ins of ``group`` by name. One that is broken is an error here: nothing is silently absent."""
    return {name: load(group, name, kind) for name in names(group)}
