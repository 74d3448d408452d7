"""The sweep explorer: curves, BD-rates, which setting to take, what the worst cases look like."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image

from sensorium.platform.errors import InvalidSetting
from sensorium.serve.pages import advice, markup
from sensorium.serve.pages.files import fresh_folder, offer
from sensorium.serve.pages.grid import PUSH
from sensorium.serve.pages.listing import Listing, Recent
from sensorium.serve.pages.spoken import spoken
from sensorium.serve.queries import check_condition

if TYPE_CHECKING:
    import polars as pl

    from sensorium.jobs.machine_quality.report.numbers import Number
    from sensorium.jobs.machine_quality.report.rows import SweepRows

__all__ = ["Explorer", "build"]

#: draws of the bootstrap here; the report has more
_REPEATS = 300
#: sweeps whose rows are kept, and for how long
_SWEEPS, _KEPT_S = 4, 600.0
_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_BUSY: dict[str, Any] = {"show_progress": "minimal", "api_visibility": "private"}
_KEEP, _BUDGET = "keep a score", "stay within a budget"


@dataclass(frozen=True)
class Asked:
    """Which rows are looked at: ``NAME@VERSION``, and a condition on them (SQL, empty for all)."""

    name: str
    where: str = ""


@dataclass(frozen=True)
class Explorer:
    """Rows and tables of sweeps, kept for a while since they hang on a version."""

    listing: Listing
    _rows: Recent[SweepRows] = field(default_factory=lambda: Recent(_KEPT_S, _SWEEPS))
    _bd: Recent[pl.DataFrame] = field(default_factory=lambda: Recent(_KEPT_S, _SWEEPS))

    def rows(self, asked: Asked) -> SweepRows:
        """The rows of a sweep.

        Raises:
            InvalidSetting, InvalidSample, InvalidQuery: they cannot be used, and why.
        """
        from sensorium.jobs.machine_quality.report.rows import read

        return self._rows.get(asked, lambda: read(self.listing.catalog, asked.name, asked.where))

    def number(self, asked: Asked, column: str) -> Number:
        """One of the sweep's numbers."""
        from sensorium.jobs.machine_quality.report.numbers import find

        return find(column, self.rows(asked).numbers)

    def bd(self, asked: Asked) -> pl.DataFrame:
        """BD-rates of every codec against every other."""
        from sensorium.jobs.machine_quality.report.bd import bd_table

        return self._bd.get(asked, lambda: bd_table(self.rows(asked), repeats=_REPEATS))

    def recommended(self, asked: Asked, conditions: list[str], budgets: list[float]) -> pl.DataFrame:
        """Which setting to take; see ``report.recommend``."""
        from sensorium.jobs.machine_quality.report.recommend import parse_condition, recommendation_table

        rows = self.rows(asked)
        return recommendation_table(rows, [parse_condition(text, rows.numbers) for text in conditions], budgets)

    def worst(self, asked: Asked, column: str, count: int) -> tuple[list[tuple[Image.Image, str]], list[str]]:
        """Pictures of the worst cases with captions, coded again for it, and remarks."""
        from sensorium.jobs.machine_quality.report.worst import shown, worst_cases

        number, found = worst_cases(self.rows(asked), count, column)
        pictures: list[tuple[Image.Image, str]] = []
        remarks: list[str] = []
        for case in shown(self.listing.catalog, asked.name, number, found):
            row = case.row
            words = (
                f"{row['image_id']}: {row['codec']} at {row['quality']}, {row['bits_per_pixel']:.3g} bits per pixel, "
                f"{number.column} {case.value:.4g}"
            )
            if case.picture is not None:
                pictures.append((Image.open(io.BytesIO(case.picture)), words))
            if case.note:
                remarks.append(f"{row['image_id']}, {row['codec']}: {case.note}")
        return pictures, remarks

    def report(self, asked: Asked) -> Path:
        """The whole report as one HTML file."""
        from sensorium.jobs.machine_quality.report.command import write
        from sensorium.jobs.machine_quality.report.content import ReportSettings, build

        return write(build(self.listing.catalog, asked.name, ReportSettings(where=asked.where)), fresh_folder())


def build(listing: Listing) -> None:
    """The page; the sweep stands in its address: ``?sweep=…&where=…``."""
    explorer = Explorer(listing)
    gr.HTML(
        markup.page(
            "<h1>Sweeps</h1><p>A sweep codes every picture with every codec at every quality, and measures the bytes, the "
            "picture, and what machines still find in it. Here it is compared, and a setting is recommended.</p>"
        ),
        padding=False,
    )
    empty = gr.HTML(padding=False)
    with gr.Row(visible=False, elem_classes="ask") as choice:
        sweep = gr.Dropdown([], label="Sweep", filterable=False, min_width=220, elem_id="sweep")
        where = gr.Textbox(
            label="Only rows for which", placeholder="all rows; or a condition, such as gop = 1", min_width=220
        )
        look = gr.Button("Look", variant="primary", scale=0, min_width=100)
    asked, place = gr.State(None), gr.Textbox(visible=False)
    with gr.Column(visible=False) as body:
        told = gr.HTML(padding=False)
        parts = _Parts.build(explorer, asked)

    def opened(request: gr.Request) -> list[Any]:
        names = listing.sweeps()
        if not names:
            return [_no_sweep(), gr.Row(visible=False), gr.skip(), "", None]
        wanted = request.query_params.get("sweep", "")
        name = wanted if wanted in names else names[0]
        condition = request.query_params.get("where", "")
        found = _asked(listing, name, condition)
        return ["", gr.Row(visible=True), gr.Dropdown(names, value=name), condition or gr.skip(), found]

    @spoken
    def chosen(name: str, condition: str) -> tuple[Asked, str]:
        found = _asked(listing, name, condition)
        explorer.rows(found)  # rows that cannot be used change nothing
        return found, markup.address("sweeps", sweep=name, where=found.where)

    @spoken
    def shown(found: Asked | None) -> list[Any]:
        if found is None:
            return [gr.skip()] * (2 + len(parts.outputs))
        return [gr.Column(visible=True), advice.summary(explorer.rows(found)), *parts.show(found)]

    outputs = [body, told, *parts.outputs]
    gr.on(None, spoken(opened), None, [empty, choice, sweep, where, asked], **_QUIET).success(
        shown, asked, outputs, **_QUIET
    )
    for trigger in (look.click, where.submit, sweep.input):
        trigger(chosen, [sweep, where], [asked, place], **_QUIET).success(shown, asked, outputs, **_BUSY).success(
            None, place, js=PUSH
        )


@dataclass(frozen=True)
class _Parts:
    """What is shown of the rows that are looked at."""

    explorer: Explorer
    outputs: list[Any]

    @classmethod
    def build(cls, explorer: Explorer, asked: gr.State) -> _Parts:
        """Make the components."""
        with gr.Row():
            with gr.Column(scale=1, min_width=240):
                number = gr.Dropdown([], label="Number", filterable=True, elem_id="number")
                codecs = gr.CheckboxGroup([], label="Codecs", elem_id="codecs")
                axis = gr.Radio(["linear", "logarithmic"], value="logarithmic", label="Axis of the rate")
                reference = gr.Dropdown([], label="Reference of the BD-rates", filterable=False)
            with gr.Column(scale=3, min_width=300):
                plot = gr.Plot(label="Mean over the images that have all qualities", elem_id="curves")
        rates = gr.HTML(padding=False, elem_id="bd")
        controls = [asked, number, codecs, axis, reference]

        @spoken
        def drawn(found: Asked, column: str, wanted: list[str], scale: str, against: str) -> tuple[Any, str]:
            return _drawn(explorer, found, column, wanted, scale, against)

        triggers = [control.input for control in (number, codecs, axis, reference)]
        gr.on(triggers, drawn, controls, [plot, rates], trigger_mode="always_last", **_QUIET)
        kept = _recommendation(explorer, asked)
        worst_by = _worst(explorer, asked)
        with gr.Row(elem_classes="files"):
            offer("Download the whole report (HTML)", explorer.report, [asked], name="report")
        return cls(explorer, [number, codecs, reference, plot, rates, *kept, worst_by])

    def show(self, asked: Asked) -> list[Any]:
        """Values of the outputs."""
        rows = self.explorer.rows(asked)
        known = [*rows.main, *(one for one in rows.numbers if one not in rows.main)]
        choices = [(one.title, one.column) for one in known]
        sensed = [(one.title, one.column) for one in known if one.higher_is_better is not None]
        if not known:
            return [gr.Dropdown([], value=None), gr.CheckboxGroup([], value=[]), gr.skip(), None, "", *[gr.skip()] * 4]
        first, codecs = known[0], rows.codecs
        plot, rates = _drawn(self.explorer, asked, first.column, codecs, "logarithmic", codecs[0])
        middle = rows.cells[first.column].drop_nulls().median()
        usual = sensed[0][1] if sensed else None
        return [
            gr.Dropdown(choices, value=first.column),
            gr.CheckboxGroup(codecs, value=codecs),
            gr.Dropdown(codecs, value=codecs[0]),
            plot,
            rates,
            gr.Dropdown(sensed, value=usual),
            float(f"{middle:.4g}") if isinstance(middle, (int, float)) else None,
            "",
            gr.Dropdown(sensed, value=usual),
        ]


def _drawn(
    explorer: Explorer, found: Asked, column: str, wanted: list[str], scale: str, against: str
) -> tuple[Any, str]:
    rows, number = explorer.rows(found), explorer.number(found, column)
    plot = advice.curve_plot(rows, number, wanted, logarithmic=scale == "logarithmic")
    return plot, advice.bd_html(explorer.bd(found), number, against, wanted)


def _recommendation(explorer: Explorer, asked: gr.State) -> list[Any]:
    """Components that ask for a setting; those that depend on the rows are returned."""
    gr.HTML(markup.page("<h2>Which setting to take?</h2>"), padding=False)
    with gr.Row(elem_classes="ask"):
        kind = gr.Radio([_KEEP, _BUDGET], value=_KEEP, label="I want to", min_width=200)
        number = gr.Dropdown([], label="Score", min_width=200, elem_id="score")
        statistic = gr.Dropdown(
            list(advice.STATISTICS), value=next(iter(advice.STATISTICS)), label="Reached by", min_width=180
        )
        bound = gr.Number(label="Bound of the score", min_width=140, elem_id="bound")
        budget = gr.Number(1.0, label="Bits per pixel, at most", min_width=140, visible=False, elem_id="budget")
        ask = gr.Button("Recommend", variant="primary", min_width=150, scale=0)
    answer = gr.HTML(padding=False, elem_id="answer")

    def switched(wanted: str) -> list[Any]:
        keep = wanted == _KEEP
        return [
            gr.Dropdown(visible=keep),
            gr.Dropdown(visible=keep),
            gr.Number(visible=keep),
            gr.Number(visible=not keep),
        ]

    @spoken
    def recommended(found: Asked, wanted: str, column: str, share: str, least: float | None, most: float | None) -> str:
        if wanted == _BUDGET:
            if most is None or most <= 0:
                raise InvalidSetting(f"bits per pixel must be above 0; got {most}. Give a budget such as 0.5.")
            return advice.answer(explorer.recommended(found, [], [most]))
        if least is None:
            raise InvalidSetting("a bound of the score is needed. Give a number.")
        text = advice.condition_text(explorer.number(found, column), share, least)
        return advice.answer(explorer.recommended(found, [text], []))

    kind.input(switched, kind, [number, statistic, bound, budget], **_QUIET)
    ask.click(recommended, [asked, kind, number, statistic, bound, budget], answer, **_BUSY)
    return [number, bound, answer]


def _worst(explorer: Explorer, asked: gr.State) -> gr.Dropdown:
    """Components that show the worst cases; the number that they are worst by is returned."""
    gr.HTML(
        markup.page(
            "<h2>Worst cases</h2><p class='quiet'>Reference on the left, decoded on the right. The pictures are coded again "
            "for this, which takes a moment.</p>"
        ),
        padding=False,
    )
    with gr.Row(elem_classes="ask"):
        number = gr.Dropdown([], label="Worst by", min_width=200)
        count = gr.Slider(1, 12, 4, step=1, label="How many", min_width=160)
        ask = gr.Button("Show them", min_width=150, scale=0)
    gallery = gr.Gallery(
        label="Worst cases",
        columns=2,
        object_fit="contain",
        height="auto",
        visible=False,
        format="png",
        buttons=["fullscreen"],
        elem_id="worst",
        elem_classes="gallery-sheet",
    )
    remarks = gr.HTML(padding=False)

    @spoken
    def found(wanted: Asked, column: str, most: float) -> tuple[Any, str]:
        pictures, notes = explorer.worst(wanted, column, int(most))
        told = markup.page(*(markup.notice(note) for note in notes))
        return gr.Gallery(pictures, visible=bool(pictures)), told

    ask.click(found, [asked, number, count], [gallery, remarks], **_BUSY)
    return number


def _asked(listing: Listing, name: str, where: str) -> Asked:
    """What is asked for, if the condition is one that a stranger may give."""
    if where.strip():
        check_condition(where)
    return Asked(f"{name}@{listing.catalog[name].version}", where.strip())


def _no_sweep() -> str:
    return markup.page(
        markup.notice(
            "There is no sweep in this lake yet. Run one from a terminal over a data set of pictures.",
            ["sensorium sweep machine_quality --data NAME --into NAME_sweep"],
        )
    )
