"""The generated panel: choose a fitted version, give it a sample of the lake or a file, see what it says and why."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import TYPE_CHECKING, Any, Literal

import gradio as gr
import pyarrow as pa
from PIL import Image

from sensorium.catalog import modality as modalities
from sensorium.catalog.fields import ArrayField, Field, ScalarField
from sensorium.jobs.training.method import png
from sensorium.jobs.training.operators import is_operator
from sensorium.serve.api.encoding import png_url
from sensorium.serve.gateway import Answer, ServedModel, only
from sensorium.serve.pages import markup
from sensorium.serve.pages.files import offer
from sensorium.serve.pages.listing import Listing
from sensorium.serve.pages.spoken import sentence, spoken
from sensorium.serve.panels import described, inputs, results
from sensorium.serve.panels.overlays import Overlaid, overlaid
from sensorium.serve.panels.settings import operator_settings
from sensorium.serve.uploads.kinds import TITLES
from sensorium.serve.uploads.readers import WHOLE, takes

if TYPE_CHECKING:
    from sensorium.platform.systems import System
    from sensorium.serve.gateway import Gateway
    from sensorium.serve.panels.inputs import Given, Needed

__all__ = ["Answered", "answered", "build"]

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
#: inches
_PREVIEW = (5.6, 2.8)
_BUSY: dict[str, Any] = {"show_progress": "minimal", "api_visibility": "private"}


@dataclass(frozen=True)
class _Answers:
    """Where answers go.

    Attributes:
        listing: the lake.
        outputs: the result's HTML, the slider between its pictures before and after, a volume with what was found in it, the
            answer itself (both a session's own), the row of its files.
    """

    listing: Listing
    outputs: list[Any]

    @classmethod
    def build(cls, listing: Listing) -> _Answers:
        """Make the components."""
        result = gr.HTML(padding=False, elem_id="answer")
        slider = gr.ImageSlider(
            label="Before (left) and after, with what was found (right)",
            format="png",
            type="pil",
            interactive=False,
            visible=False,
            buttons=["fullscreen"],
            elem_id="answer-pair",
        )
        volume, answer = gr.State(None), gr.State(None)

        @gr.render(inputs=[volume], triggers=[volume.change], show_progress="hidden")  # type: ignore[untyped-decorator]
        def planes(found: Overlaid | None) -> None:
            if found is not None:
                found.show()

        with gr.Row(elem_classes="files", visible=False) as files:
            offer("Result as NPZ", results.as_npz, [answer], name="result-npz")
            offer("Result as JSON", results.as_json, [answer], name="result-json")
        return cls(listing, [result, slider, volume, answer, files])

    async def ask(self, reference: str, given: Callable[[ServedModel], Coroutine[Any, Any, Given]]) -> list[Any]:
        """Values of the outputs: the answer of a model, or why there is none. What was there before goes in either case."""
        try:
            found = await answered(self.listing.gateway, reference, given)
        except Exception as error:  # noqa: BLE001 - told on the page
            return [results.failure(sentence(error)), gr.ImageSlider(visible=False), None, None, gr.Row(visible=False)]
        slider = gr.ImageSlider(found.pair, visible=found.pair is not None)
        return [found.html, slider, found.volume, found.answer, gr.Row(visible=True)]


@dataclass(frozen=True)
class Answered:
    """What a model says of one sample.

    Attributes:
        html: for people.
        pair: its pictures before and after, if it has them.
        volume: the sample with what was found in it, if it is a volume.
        answer: without pictures, to be kept.
    """

    html: str
    pair: tuple[Image.Image, Image.Image] | None
    volume: Overlaid | None
    answer: Answer


async def answered(
    gateway: Gateway, reference: str, given: Callable[[ServedModel], Coroutine[Any, Any, Given]]
) -> Answered:
    """What a model says of one sample.

    Raises:
        SensoriumError: there is no such model, or the sample does not suit it.
    """
    served = await gateway.resolve(reference or "")
    sample = await given(served)
    answer = only(await gateway.predict(served.reference, [sample.sample], pictures=True))
    html = await asyncio.to_thread(results.shown, answer, sample, served)
    pair = await asyncio.to_thread(results.pair, answer)
    return Answered(html, pair, overlaid(answer, sample, served), replace(answer, pictures={}))


def build(system: System, listing: Listing, gateway: Gateway) -> None:
    """The page of a system."""
    title = markup.title_of(system.name)
    head = gr.HTML(described.heading(system, title), padding=False)
    with gr.Column(visible=False) as body:
        current = gr.State(None)  # of the model: the list says that it has changed when it is only drawn anew
        form = gr.State(None)  # which inputs the model needs: only where they differ are they drawn anew
        shown: bool | Literal["hidden"] = (
            "hidden" if is_operator(system) else True
        )  # an operator has settings in its place
        model = gr.Dropdown([], label="Model", filterable=False, elem_id="model", interactive=True, visible=shown)
        if is_operator(system):
            operator_settings(system.name, model)
        with gr.Tabs():
            with gr.Tab("From the lake"):
                dataset, ask = _lake(listing, model)
            with gr.Tab("Your own file"):
                own = gr.Column()
        answers = _Answers.build(listing)
        told = gr.HTML(padding=False)
    gr.HTML(described.how(system), padding=False)
    ask(answers)
    with own:
        _own(answers, current, form)

    def opened() -> list[Any]:
        try:
            found = described.choices(gateway, system)
            if found:
                return [gr.skip(), gr.Column(visible=True), gr.Dropdown(found, value=found[0][1])]
            hint = described.nothing_fitted(listing, system)
        except Exception as error:  # noqa: BLE001 - told on the page
            hint = markup.notice(sentence(error))
        return [described.heading(system, title, hint), gr.skip(), gr.skip()]

    def chosen(reference: str) -> list[Any]:
        try:
            served = gateway.served(reference)
            suitable = inputs.suiting(listing, served)
            words = described.about(served, gateway.stages(served))
            asked = _form_of(served, *_asked(gateway, served))
        except Exception as error:  # noqa: BLE001 - told on the page
            return [markup.page(markup.notice(sentence(error))), gr.Dropdown([], value=None), None, gr.skip()]
        return [words, gr.Dropdown(suitable, value=suitable[0][1] if suitable else None), reference, asked]

    gr.on(None, opened, None, [head, body, model], **_QUIET)
    model.change(chosen, model, [told, dataset, current, form], **_QUIET)


# -- from the lake -----------------------------------------------------------------------------------------------------


def _lake(listing: Listing, model: gr.Dropdown) -> tuple[gr.Dropdown, Callable[[_Answers], None]]:
    """The choice of a sample: the data set's component, and what joins the button to where answers go."""
    with gr.Row(elem_classes="ask"):
        dataset = gr.Dropdown([], label="Data set", filterable=False, min_width=220, elem_id="data", interactive=True)
        sample = gr.Dropdown(
            [],
            label=f"Sample (one of the first {inputs.FIRST}, or any id)",
            allow_custom_value=True,
            min_width=220,
            elem_id="sample",
            interactive=True,
        )
        dice = gr.Button("Random sample", scale=0, min_width=180)
    picture = gr.HTML(padding=False)
    button = gr.Button("Predict this sample", variant="primary")

    def listed(name: str | None) -> list[Any]:
        if not name:
            words = "No data set of the lake has what this model needs. Send a file of your own."
            return [gr.Dropdown([], value=None), gr.Button(interactive=False), markup.page(markup.notice(words))]
        ids = inputs.sample_ids(listing, name)
        return [gr.Dropdown(ids, value=ids[0]), gr.Button(interactive=True), ""]

    def previewed(name: str | None, identifier: str | None) -> str:
        if not name or not identifier:
            return ""
        try:
            return _preview(listing, name, identifier)
        except Exception as error:  # noqa: BLE001 - told on the page
            return markup.page(markup.notice(sentence(error)))

    def join(answers: _Answers) -> None:
        async def ask(reference: str, name: str, identifier: str) -> list[Any]:
            async def given(served: ServedModel) -> Given:
                return await asyncio.to_thread(inputs.stored, listing, served, name or "", identifier or "")

            return await answers.ask(reference, given)

        button.click(ask, [model, dataset, sample], answers.outputs, **_BUSY)

    dataset.change(spoken(listed), dataset, [sample, button, picture], **_QUIET)
    sample.change(previewed, [dataset, sample], picture, **_QUIET)
    dice.click(spoken(lambda name: inputs.random_id(listing, name)), dataset, sample, **_QUIET)
    return dataset, join


def _preview(listing: Listing, name: str, identifier: str) -> str:
    """The sample as its modality draws it, with a link to its own page."""
    view = listing.view(name)
    modality = listing.dataset(view).modality
    link = markup.link("Look at this sample", "sample", name=view.name, version=view.version, id=identifier)
    if modality.preview is None:
        return markup.page(link)
    draw = modality.preview
    content = listing.kept(
        ("panel", view.name, view.version, identifier),
        lambda: png(lambda axes: draw(axes, listing.sample(view, identifier)), *_PREVIEW),
    )
    words = escape(f"Sample {identifier} of {name}", quote=True)
    return markup.page(
        f'<img src="{png_url(content)}" alt="{words}" style="max-width:100%;background:#fff;border-radius:8px">',
        f"<p>{link}</p>",
    )


# -- one's own ---------------------------------------------------------------------------------------------------------


def _own(answers: _Answers, model: gr.State, form: gr.State) -> None:
    """Inputs for files and values; which, the chosen model says.

    What a person has chosen or typed stays when another version of the model needs the same: the inputs are not drawn anew.
    """
    gateway = answers.listing.gateway

    @gr.render(inputs=[model], triggers=[form.change], show_progress="hidden")  # type: ignore[untyped-decorator]
    def shown(reference: str | None) -> None:
        if not reference:
            return
        try:
            served = gateway.served(reference)
            wanted, kinds = _asked(gateway, served)
        except Exception as error:  # noqa: BLE001 - told on the page
            gr.HTML(markup.page(markup.notice(sentence(error))), padding=False)
            return
        gr.HTML(markup.page(_fields(served, wanted)), padding=False)
        files = _file_inputs(wanted, kinds)
        scalars = _scalar_inputs(wanted)
        button = gr.Button("Predict this file", variant="primary")
        names, fields = list(files), list(scalars)

        async def ask(asked: str, *values: Any) -> list[Any]:
            async def given(serving: ServedModel) -> Given:
                contents = {name: value for name, value in zip(names, values, strict=False) if value is not None}
                typed = zip(fields, values[len(names) :], strict=True)
                known = {one.name: inputs.parsed(one, value) for one, value in typed if value and value.strip()}
                return await inputs.uploaded(gateway, serving, wanted, contents, known)

            return await answers.ask(asked, given)

        button.click(ask, [model, *files.values(), *scalars.values()], answers.outputs, **_BUSY)


def _asked(gateway: Gateway, served: ServedModel) -> tuple[Needed, tuple[str, ...]]:
    """What a model has to be given, and the kinds of files that can hold all of it."""
    return inputs.needed(gateway.catalog, served), takes(served.modality)[WHOLE]


def _form_of(served: ServedModel, wanted: Needed, kinds: Sequence[str]) -> str:
    """Equal texts for equal inputs: a page's state is compared by its hash, and what is needed has none."""
    return f"{served.modality} {wanted} {kinds}"


def _fields(served: ServedModel, wanted: Needed) -> str:
    """What has to be given, with units."""
    fields: tuple[Field, ...] = (*wanted.arrays, *wanted.scalars)
    rows = [[one.name, _form(one), one.unit, one.description] for one in fields]
    modality = modalities.get(served.modality)
    caption = f"What this model looks at ({modality.title})"
    return markup.table(["Field", "Form", "Unit", "What it is"], rows, caption=caption, shown=True)


def _form(one: Field) -> str:
    if isinstance(one, ScalarField):
        return str(one.type)
    return f"array [{one.dims}]" if one.layouts else "array"


def _file_inputs(wanted: Needed, kinds: Sequence[str]) -> dict[str, gr.File]:
    """Inputs for files by field; ``file`` for one that holds all."""
    found = {}
    if kinds:
        found[WHOLE] = gr.File(label=f"A file: {', '.join(TITLES[kind] for kind in kinds)}", type="binary", height=150)
    if len(wanted.arrays) == 1 and kinds:
        return found
    with gr.Accordion("A file for each field", open=not kinds):
        for one in wanted.arrays:
            found[one.name] = gr.File(label=_label(one), type="binary", height=150)
    return found


def _label(one: Field) -> str:
    unit = f" ({one.unit})" if one.unit else ""
    kind = ": NumPy array, or a picture" if isinstance(one, ArrayField) else ""
    return f"{one.name}{unit}{kind}"


def _scalar_inputs(wanted: Needed) -> dict[ScalarField, Any]:
    """Inputs for values; those that the data of the fit gives once for all stand in them already."""
    found = {one: _scalar_input(one, wanted.values.get(one.name)) for one in wanted.scalars}
    if wanted.further:
        with gr.Accordion("Further values, which a file may not say", open=False):
            found |= {one: _scalar_input(one, wanted.values.get(one.name)) for one in wanted.further}
    return found


def _scalar_input(one: ScalarField, value: Any) -> gr.Textbox:
    """A line to type a value in. Numbers too: an input for numbers says 0 where nothing was typed."""
    listed = pa.types.is_list(one.type)
    text = ", ".join(map(str, value)) if listed and value is not None else "" if value is None else str(value)
    placeholder = "values, parted by commas" if listed else "" if pa.types.is_string(one.type) else "a number"
    return gr.Textbox(text, label=_label(one), info=one.description or None, placeholder=placeholder, interactive=True)
