"""SQL over all data sets of the lake."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import polars as pl

from sensorium.serve.pages import examples, markup
from sensorium.serve.pages.files import offer
from sensorium.serve.pages.grid import PUSH, flat, saved
from sensorium.serve.pages.listing import Listing
from sensorium.serve.pages.spoken import spoken

__all__ = ["build"]

#: rows that the page shows, and rows of a download, unless the service allows fewer
_ROWS, _SAVED = 500, 10_000


def build(listing: Listing) -> None:
    """The page; the query stands in its address: ``?q=…``."""
    gr.HTML(
        markup.page(
            "<h1>Query</h1><p>SELECT over the values of all samples. Data sets are tables of that name; an older version "
            'is <code>"name@3"</code>, in double quotes. Nothing can be changed from here.</p>'
        ),
        padding=False,
    )
    with gr.Row():
        text = gr.Textbox(label="SQL", lines=4, scale=4, min_width=280, elem_id="sql", placeholder="SELECT …")
        suggestions = gr.Dropdown([], label="Examples", value=None, scale=2, min_width=220, filterable=False)
    with gr.Row(elem_classes="files"):
        run = gr.Button("Run", variant="primary", min_width=120)
    told = gr.HTML(padding=False)
    table = gr.Dataframe(label="Result", interactive=False, visible=False, max_height=560, elem_id="result")
    place = gr.Textbox(visible=False)

    @spoken
    async def asked(query: str) -> tuple[Any, Any, str]:
        answer = await listing.gateway.query(query, rows=_ROWS)
        frame = answer.frame
        shown = gr.Dataframe(flat(frame), visible=frame.height > 0)
        return _told(frame, answer.truncated), shown, markup.address("query", q=query)

    def opened(request: gr.Request) -> tuple[Any, Any, str]:
        found = examples.statements(listing)
        words = "" if found else markup.page(markup.notice("The lake is empty: there is nothing to query yet."))
        # what somebody has typed before the page was ready stays
        return gr.Dropdown(found, value=None), request.query_params.get("q") or gr.skip(), words

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

    @spoken
    async def remembered(query: str) -> tuple[Any, Any, str]:
        return await asked(query) if query.strip() else (gr.skip(), gr.skip(), "")

    outputs = [told, table, place]
    gr.on(None, spoken(opened), None, [suggestions, text, told], **quiet).success(remembered, text, outputs, **quiet)
    suggestions.input(lambda example: example or gr.skip(), suggestions, text, **quiet)
    for trigger in (run.click, text.submit):
        trigger(asked, text, outputs, show_progress="minimal", api_visibility="private").success(None, place, js=PUSH)
    with gr.Row(elem_classes="files"):
        for kind, label in (("csv", "Result as CSV"), ("parquet", "Result as Parquet")):
            offer(label, _saver(listing, kind), [text], name=kind)


def _saver(listing: Listing, kind: str) -> Any:
    async def make(query: str) -> Path:
        return saved((await listing.gateway.query(query, rows=_SAVED)).frame, kind)

    return make


def _told(frame: pl.DataFrame, truncated: bool) -> str:
    rows = markup.counted(frame.height, "row")
    text = f"The result has {rows}."
    if truncated:
        text = f"The first {rows} of the result; there are more. A download has up to {markup.text_of(_SAVED)}."
    return markup.page(f'<p role="status">{escape(text)}</p>')
