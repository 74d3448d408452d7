"""Errors as sentences: what the person can mend is told, what only we can is logged under a number."""

from __future__ import annotations

import functools
import inspect
import logging
import uuid
from collections.abc import Callable
from html import escape
from typing import Any, NoReturn, ParamSpec, TypeVar

import gradio as gr

from sensorium.platform.errors import SensoriumError

__all__ = ["sentence", "spoken"]

logger = logging.getLogger(__name__)

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def spoken(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """An event's function, whose errors the page shows as sentences; for plain functions and coroutines."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def later(*arguments: Arguments.args, **named: Arguments.kwargs) -> Any:
            try:
                return await function(*arguments, **named)
            except Exception as error:  # noqa: BLE001 - every error ends on the page
                _say(error)

        return later  # type: ignore[return-value] # a coroutine function like the one that came in

    @functools.wraps(function)
    def now(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        try:
            return function(*arguments, **named)
        except Exception as error:  # noqa: BLE001
            _say(error)

    return now


def sentence(error: Exception) -> str:
    """What to tell of an error: the message of ours; of any other a number, under which the log has the traceback."""
    if isinstance(error, SensoriumError):
        return str(error)
    number = uuid.uuid4().hex[:8]
    logger.error("id %s: %s", number, type(error).__name__, exc_info=error)
    return f"Something went wrong (id {number}). The log of the service has more under this id."


def _say(error: Exception) -> NoReturn:
    if isinstance(error, gr.Error):
        raise error
    # escaped, since messages repeat what was typed; it stays until it is closed, for slow readers
    raise gr.Error(escape(sentence(error)), duration=None, title="That did not work", print_exception=False) from error
