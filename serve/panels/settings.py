"""Inputs for the settings of an operator, one for each field of its configuration."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

import gradio as gr

from sensorium.jobs.training.operators import Configured, configured
from sensorium.serve.pages import markup
from sensorium.serve.pages.spoken import sentence

__all__ = ["operator_settings", "with_settings"]

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def operator_settings(system: str, model: gr.Dropdown) -> None:
    """Make the inputs; what they hold becomes the reference that ``model`` has, hidden, for the rest of the page.

    Settings that do not suit each other are told, and the last ones that did go on answering.
    """
    default = configured(system)
    hints = typing.get_type_hints(type(default.config))
    hidden = default.load().places
    names = [one.name for one in dataclasses.fields(default.config) if one.name not in hidden]
    with gr.Accordion("Settings", open=True), gr.Row(elem_classes="ask"):
        found = [_input(name, hints[name], getattr(default.config, name)) for name in names]
    told = gr.HTML(padding=False)

    def changed(*values: Any) -> list[Any]:
        try:
            subject = with_settings(system, dict(zip(names, values, strict=True)))
        except Exception as error:  # noqa: BLE001 - told on the page
            return [gr.skip(), markup.page(markup.notice(sentence(error)))]
        label = subject.reference
        return [gr.Dropdown([(label, label)], value=label), ""]

    for one in found:  # of a line, what has been typed to its end
        events = [one.blur, one.submit] if isinstance(one, gr.Textbox) else [one.change]
        gr.on(events, changed, found, [model, told], **_QUIET)


def with_settings(system: str, values: dict[str, Any]) -> Configured:
    """The operator with what is typed and chosen.

    Raises:
        InvalidSetting: a value that its field cannot have.
    """
    return configured(
        system, {name: value.strip() if isinstance(value, str) else value for name, value in values.items()}
    )


def _input(name: str, hint: Any, value: Any) -> Any:
    """A choice, a tick or a line to type in."""
    label = name.replace("_", " ")
    if typing.get_origin(hint) is typing.Literal:
        choices = list(typing.get_args(hint))
        return gr.Dropdown(choices, value=value, label=label, filterable=False, min_width=180, elem_id=f"set-{name}")
    if hint is bool:
        return gr.Checkbox(value, label=label, min_width=180, elem_id=f"set-{name}")
    return gr.Textbox(str(value), label=label, min_width=180, elem_id=f"set-{name}")
