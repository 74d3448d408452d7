"""Panels: a page for every system that predicts, generated from what the system declares.

A system that needs another page brings it: ``operations["panel"]`` names a function that gets the gateway and makes the
components, as ``module:function``.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from sensorium.serve.pages import markup
from sensorium.serve.pages.listing import Listing
from sensorium.serve.pages.panel import Panel
from sensorium.serve.panels.panel import build

if TYPE_CHECKING:
    from sensorium.platform.systems import System
    from sensorium.serve.gateway import Gateway

__all__ = ["panels"]


def panels(gateway: Gateway) -> list[Panel]:
    """A panel for each installed system that predicts, or that brings a page of its own; by name."""
    listing = Listing(gateway)
    return [_panel(system, listing) for system in gateway.systems() if {"predict", "panel"} & set(system.operations)]


def _panel(system: System, listing: Listing) -> Panel:
    title = markup.title_of(system.name)
    if "panel" in system.operations:
        return Panel(system.name, title, system.operation("panel"))
    return Panel(system.name, title, functools.partial(build, system, listing))
