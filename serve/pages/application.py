"""The whole front end: its pages, and how it is mounted in an application."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from sensorium.platform.errors import InvalidName
from sensorium.serve.pages import catalog, home, markup, query, sample, sweeps
from sensorium.serve.pages.listing import Listing
from sensorium.serve.pages.panel import Panel
from sensorium.serve.pages.theme import CSS, HEAD, theme

if TYPE_CHECKING:
    from fastapi import FastAPI, Request

    from sensorium.serve.gateway import Gateway

__all__ = ["build", "mount"]

#: of one event's function that run at a time: readers wait for storage, not for the processor
_AT_ONCE = 4
#: seconds between looks at Gradio's own cache of files, and the age at which they go
_CACHE = (600, 3600)


def build(gateway: Gateway, panels: Sequence[Panel] = ()) -> gr.Blocks:
    """The pages: home, catalog, query, sweeps, then ``panels``.

    Each is an address of its own, so that the browser's back button and bookmarks work; what a page shows stands in the
    query of its address.

    Raises:
        InvalidName: a panel has the name of another page.
    """
    listing = Listing(gateway)
    own = [
        Panel("catalog", "Catalog", lambda _: catalog.build(listing)),
        Panel("dataset", "Data set", lambda _: catalog.build_dataset(listing), listed=False),
        Panel("sample", "Sample", lambda _: sample.build(listing), listed=False),
        Panel("query", "Query", lambda _: query.build(listing)),
        Panel("sweeps", "Sweeps", lambda _: sweeps.build(listing)),
    ]
    pages = [*own, *panels]
    names = [page.name for page in pages]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidName(f"panel {twice!r}: another page has this name. Give each panel its own.")
    front = gr.Blocks(title="Sensorium", analytics_enabled=False, delete_cache=_CACHE)
    rows = {"": "Home"} | {page.name: page.title for page in own if page.listed}
    folded = {page.name: page.title for page in panels if page.listed}
    with front:
        _navigation(rows, folded, "")
        home.build(listing)
    for page in pages:
        with front.route(page.title, page.name, show_in_navbar=page.listed):
            _navigation(rows, folded, page.name)
            page.build(gateway)
    front.queue(default_concurrency_limit=_AT_ONCE)
    return front


def _navigation(rows: Mapping[str, str], folded: Mapping[str, str], current: str) -> None:
    """Own links instead of Gradio's, which ``HEAD`` hides: its row covers half of a phone and says not where one is."""
    gr.HTML(markup.navigation(rows, folded, current), padding=False)


def mount(
    application: FastAPI,
    gateway: Gateway,
    panels: Sequence[Panel] = (),
    *,
    path: str = "/ui",
    largest: int = 64 << 20,
    allowed: Callable[[Request], str | None] | None = None,
) -> FastAPI:
    """Mount the front end in ``application``.

    Args:
        application: that serves the API too.
        gateway: behind which models and data are.
        panels: further pages.
        path: of the home page.
        largest: bytes of a file that is sent to it.
        allowed: names the user of a request, or gives None to refuse it; everybody may without.
    """
    options: dict[str, Any] = {} if allowed is None else {"auth_dependency": allowed}
    with warnings.catch_warnings():
        # Gradio says that it renders pages in the browser where there are several, also when that is what it was told
        warnings.filterwarnings("ignore", "SSR mode is not supported", UserWarning)
        mounted: FastAPI = gr.mount_gradio_app(
            application,
            build(gateway, panels),
            path=path,
            theme=theme(),
            css=CSS,
            head=HEAD,
            max_file_size=largest,
            show_error=False,  # what may be told is told as a sentence
            ssr_mode=False,
            footer_links=[],
            run_history=False,  # inputs may be people's data: a browser keeps none of them
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            **options,
        )
    return mounted
