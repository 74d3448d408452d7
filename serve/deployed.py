"""The application as a cluster's Serve configuration names it: ``import_path: sensorium.serve.deployed:build``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sensorium.platform.errors import InvalidSetting, close_matches
from sensorium.platform.settings import Settings
from sensorium.platform.storage import Storage
from sensorium.serve.application import application
from sensorium.serve.options import ServeOptions

__all__ = ["build", "options_of"]

#: a secret, which does not belong into a configuration that the dashboard shows
_SECRETS = ("token",)


def build(arguments: Mapping[str, Any]) -> Any:
    """The application with ``arguments``, the options of :class:`ServeOptions` and ``lake``.

    The lake is that of the settings without one; the token is in ``SENSORIUM_TOKEN``.

    Raises:
        InvalidSetting: an argument that there is not, or that is out of its range.
    """
    rest = dict(arguments)
    settings = Settings.load(lake=rest.pop("lake", None))
    return application(Storage.at(settings.lake, settings.storage_options), options_of(rest), remote=True)


def options_of(arguments: Mapping[str, Any]) -> ServeOptions:
    """Options from JSON types, with the token of the environment."""
    known = {one.name for one in fields(ServeOptions)} - set(_SECRETS)
    unknown = sorted(set(arguments) - known)
    if unknown:
        raise InvalidSetting(
            f"the service has no argument {unknown[0]!r}. {close_matches(unknown[0], known)} The token is SENSORIUM_TOKEN."
        )
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in arguments.items()
    }
    return ServeOptions(**values, token=os.environ.get("SENSORIUM_TOKEN", "").strip())
