"""How the front end looks: own colours with enough contrast in light and dark, the system's own fonts, room for phones."""

from __future__ import annotations

import gradio as gr
from gradio.themes.utils.colors import Color

__all__ = ["ACCENT", "CONTRASTS", "CSS", "HEAD", "SERIES", "contrast", "theme"]

#: petrol
ACCENT = Color(
    c50="#eef7f8",
    c100="#d7edf0",
    c200="#afd9df",
    c300="#7cc0ca",
    c400="#459fac",
    c500="#217d8c",
    c600="#136876",
    c700="#0f5460",
    c800="#10444e",
    c900="#113941",
    c950="#07242a",
)
_NEUTRAL = Color(
    c50="#f6f8f8",
    c100="#edf0f1",
    c200="#dde3e4",
    c300="#c3cccf",
    c400="#93a0a5",
    c500="#647278",
    c600="#4a575c",
    c700="#364146",
    c800="#222c30",
    c900="#172024",
    c950="#0e1518",
    name="stone",
)
#: text and what it stands on, in pairs that the WCAG asks 4.5 of
CONTRASTS = {
    "text": ("#172024", "#f6f8f8"),
    "text, dark": ("#edf0f1", "#0e1518"),
    "quiet text": (_NEUTRAL.c600, "#ffffff"),
    "quiet text, dark": (_NEUTRAL.c300, _NEUTRAL.c900),
    "link": (ACCENT.c600, "#ffffff"),
    "link, dark": (ACCENT.c300, _NEUTRAL.c900),
    "button": ("#ffffff", ACCENT.c600),
    "button, dark": (_NEUTRAL.c950, ACCENT.c300),
    "notice": ("#5c3a00", "#fff4dc"),
    "notice, dark": ("#ffe2a8", "#3a2a08"),
}
#: lines of plots, apart for colour-blind readers (Okabe and Ito, 2008), the lightest left out
SERIES = ("#0072b2", "#d55e00", "#009e73", "#b8588f", "#8c6d31", "#4a4aa8", "#a50026", "#1b7837", "#4d4d4d", "#b07d00")

_FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Liberation Sans", "sans-serif")
_MONO = ("ui-monospace", "Cascadia Mono", "Menlo", "DejaVu Sans Mono", "Liberation Mono", "monospace")

#: what differs from Gradio's base, light and dark
_VALUES = {
    "body_background_fill": "*neutral_50",
    "body_background_fill_dark": "*neutral_950",
    "body_text_color": "*neutral_900",
    "body_text_color_dark": "*neutral_100",
    "body_text_color_subdued": "*neutral_600",
    "body_text_color_subdued_dark": "*neutral_300",
    "background_fill_primary": "white",
    "background_fill_primary_dark": "*neutral_900",
    "block_background_fill": "white",
    "block_background_fill_dark": "*neutral_900",
    "block_border_color": "*neutral_200",
    "block_border_color_dark": "*neutral_700",
    "block_border_width": "1px",
    "block_shadow": "none",
    "block_label_background_fill": "*background_fill_primary",
    "block_label_background_fill_dark": "*background_fill_primary",
    "block_label_border_width": "0px",
    "block_label_text_color": "*neutral_600",
    "block_label_text_color_dark": "*neutral_300",
    "block_label_text_weight": "600",
    "block_title_text_color": "*neutral_700",
    "block_title_text_color_dark": "*neutral_200",
    "block_title_text_weight": "600",
    "block_info_text_color": "*neutral_600",
    "block_info_text_color_dark": "*neutral_300",
    "input_background_fill": "white",
    "input_background_fill_dark": "*neutral_800",
    "input_border_width": "1px",
    "input_border_color": "*neutral_400",
    "input_border_color_dark": "*neutral_500",
    "input_border_color_focus": "*primary_500",
    "input_border_color_focus_dark": "*primary_300",
    "input_placeholder_color": "*neutral_500",
    "input_placeholder_color_dark": "*neutral_400",
    "button_primary_background_fill": "*primary_600",
    "button_primary_background_fill_hover": "*primary_700",
    "button_primary_background_fill_dark": "*primary_300",
    "button_primary_background_fill_hover_dark": "*primary_200",
    "button_primary_text_color": "white",
    "button_primary_text_color_dark": "*neutral_950",
    "button_secondary_background_fill": "white",
    "button_secondary_background_fill_hover": "*neutral_100",
    "button_secondary_background_fill_dark": "*neutral_800",
    "button_secondary_background_fill_hover_dark": "*neutral_700",
    "button_secondary_border_color": "*neutral_300",
    "button_secondary_border_color_dark": "*neutral_600",
    "button_secondary_text_color": "*neutral_900",
    "button_secondary_text_color_dark": "*neutral_100",
    "button_border_width": "1px",
    "button_large_text_weight": "600",
    "button_medium_text_weight": "600",
    "link_text_color": "*primary_600",
    "link_text_color_dark": "*primary_300",
    "link_text_color_hover": "*primary_800",
    "link_text_color_hover_dark": "*primary_200",
    "link_text_color_visited": "*primary_600",
    "link_text_color_visited_dark": "*primary_300",
    "slider_color": "*primary_600",
    "slider_color_dark": "*primary_300",
    "checkbox_background_color_selected": "*primary_600",
    "checkbox_label_background_fill_selected": "*primary_50",
    "checkbox_label_background_fill_selected_dark": "*primary_900",
    "color_accent_soft": "*primary_50",
    "color_accent_soft_dark": "*primary_900",
    "table_even_background_fill": "white",
    "table_even_background_fill_dark": "*neutral_900",
    "table_odd_background_fill": "*neutral_50",
    "table_odd_background_fill_dark": "*neutral_800",
}


def theme() -> gr.themes.Base:
    """The theme; it names fonts that systems have, and fetches nothing."""
    base = gr.themes.Base(
        primary_hue=ACCENT,
        secondary_hue=ACCENT,
        neutral_hue=_NEUTRAL,
        radius_size=gr.themes.sizes.radius_md,
        spacing_size=gr.themes.sizes.spacing_md,
        text_size=gr.themes.sizes.text_md,
        font=list(_FONT),
        font_mono=list(_MONO),
    )
    return base.set(**_VALUES)


def contrast(one: str, other: str) -> float:
    """The WCAG's contrast of two colours ``#rrggbb``: 1 to 21."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


#: What Gradio would confine to the inside of its container stands here, not in the CSS below.
#: A picture that a component shows without a word has the component's label as its words.
#: The browser's back button leaves a state of the page that only its address knows: the page is read again.
HEAD = """
<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E\
%3Ccircle cx='8' cy='8' r='7' fill='%23136876'/%3E%3Ccircle cx='8' cy='8' r='3' fill='%23fff'/%3E%3C/svg%3E">
<meta name="color-scheme" content="light dark">
<style>
.gradio-container .nav-holder { display: none; }
@media (max-width: 640px) { .gradio-container main { padding: .4rem !important; } }
@media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }
</style>
<script>window.addEventListener("popstate", () => window.location.reload());</script>
<script>
new MutationObserver(() => document.querySelectorAll(".block img:not([alt]), .block img[alt='']").forEach((image) => {
  const label = image.closest(".block").querySelector("[data-testid=block-label]");
  if (label) image.alt = label.innerText.trim();
})).observe(document.documentElement, { childList: true, subtree: true });
</script>
"""

CSS = """
.gradio-container, .gradio-container main { width: 100% !important; }
.gradio-container { max-width: 80rem !important; margin: 0 auto !important; }
.gradio-container main, main.fillable { padding-top: .5rem; }
.gradio-container :focus-visible { outline: 3px solid var(--primary-400); outline-offset: 2px; }
.places ul { list-style: none; margin: 0; padding: 0; }
.places li { margin: 0; padding: 0; }
.places > ul { display: flex; flex-wrap: wrap; justify-content: flex-end; gap: .1rem .35rem; padding-bottom: .4rem;
  border-bottom: 1px solid var(--block-border-color); }
.places a, .places summary { display: block; text-align: left; font-size: .95rem;
  padding: .35rem .6rem !important; border-radius: 8px; cursor: pointer;
  border: 1px solid transparent; color: var(--body-text-color-subdued); text-decoration: none !important; }
.places a:hover, .places summary:hover { color: var(--body-text-color); background: var(--color-accent-soft); }
.places a[aria-current], .places summary.here { color: var(--body-text-color); border-color: var(--block-border-color);
  background: var(--block-background-fill); }
.places summary { list-style: none; }
.places summary::-webkit-details-marker { display: none; }
.places summary::after { content: " \\25BE"; }
.places details[open] summary::after { content: " \\25B4"; }
.places details { position: relative; }
.places details > ul { position: absolute; right: 0; z-index: 20; margin-top: .3rem; padding: .4rem; columns: 2; width: 30rem;
  max-width: calc(100vw - 2rem); max-height: 75vh; overflow-y: auto; background: var(--block-background-fill);
  border: 1px solid var(--block-border-color); border-radius: 10px; box-shadow: 0 6px 24px rgb(0 0 0 / .18); }
.places details li { break-inside: avoid; }
.page h1 { font-size: 1.7rem; line-height: 1.25; margin: .2rem 0 .3rem; font-weight: 650; letter-spacing: -.01em; }
.page h2 { font-size: 1.15rem; margin: 1.4rem 0 .5rem; font-weight: 650; }
.page p { max-width: 48rem; line-height: 1.55; margin: .35rem 0; }
.page a { color: var(--link-text-color); text-decoration: underline; text-underline-offset: 3px; padding: 0 !important;
  margin: 0 !important; }
.page a:hover { color: var(--link-text-color-hover); }
.page .quiet { color: var(--body-text-color-subdued); }
.page code, .page pre { font-family: var(--font-mono); font-size: .88em; }
.page pre { background: var(--background-fill-primary); border: 1px solid var(--block-border-color);
  border-radius: 8px; padding: .7rem .9rem; overflow-x: auto; line-height: 1.6; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .7rem; margin: 1rem 0;
  padding: 0; list-style: none; }
.tiles li { background: var(--block-background-fill); border: 1px solid var(--block-border-color); border-radius: 10px;
  padding: .75rem .95rem; margin: 0; }
.tiles b { display: block; font-size: 1.45rem; font-weight: 650; font-variant-numeric: tabular-nums; line-height: 1.25; }
.tiles span { color: var(--body-text-color-subdued); font-size: .88rem; }
.wide { overflow-x: auto; border: 1px solid var(--block-border-color); border-radius: 10px;
  background: var(--block-background-fill); }
.wide table { border-collapse: collapse; width: 100%; font-size: .92rem; margin: 0 !important; border: 0 !important; }
.wide caption.shown { text-align: left; padding: .5rem .8rem; color: var(--body-text-color-subdued); }
.wide tr { border: 0 !important; }
.wide th, .wide td { padding: .5rem .8rem; text-align: left; vertical-align: top; border: 0;
  border-bottom: 1px solid var(--block-border-color); }
.wide tr:last-child td { border-bottom: 0; }
.wide th { color: var(--body-text-color-subdued); font-weight: 600; white-space: nowrap; font-size: .85rem; }
.wide td.n, .wide th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.wide td.long { min-width: 16rem; max-width: 30rem; overflow-wrap: anywhere; }
.wide tr.best td { font-weight: 650; background: var(--color-accent-soft); }
.tag { display: inline-block; padding: .05rem .5rem; border-radius: 99px; background: var(--color-accent-soft);
  color: var(--link-text-color); font-size: .82rem; white-space: nowrap; margin: 0 .2rem .2rem 0; }
.notice { background: #fff4dc; color: #5c3a00; border-radius: 10px; padding: .8rem 1rem; margin: .5rem 0; line-height: 1.5; }
.dark .notice { background: #3a2a08; color: #ffe2a8; }
.facts { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .25rem 1rem; margin: .4rem 0;
  font-size: .93rem; }
.facts dt { color: var(--body-text-color-subdued); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.lineage { overflow-x: auto; background: var(--block-background-fill); border: 1px solid var(--block-border-color);
  border-radius: 10px; padding: .5rem; }
.lineage svg { display: block; font: 13px var(--font); }
.lineage .node rect { fill: var(--background-fill-primary); stroke: var(--neutral-400); }
.lineage .node.here rect { fill: var(--color-accent-soft); stroke: var(--primary-500); stroke-width: 2; }
.lineage text { fill: var(--body-text-color); }
.lineage .quiet { fill: var(--body-text-color-subdued); font-size: 11px; }
.lineage path { fill: none; stroke: var(--neutral-400); stroke-width: 1.5; }
.lineage a:focus-visible rect { stroke: var(--primary-400); stroke-width: 3; }
.dark .js-plotly-plot { filter: invert(.9) hue-rotate(180deg); }
.dark .gallery-sheet img { background: #fff; }
.gallery-sheet .grid-wrap, .gallery-sheet .grid-container { max-height: none !important; overflow: visible !important;
  height: auto !important; }
.gallery-sheet .caption-label { max-width: 100%; }
.ask { align-items: flex-end !important; }
.ask button { min-height: 2.9rem; margin-bottom: .35rem; }
.gradio-container .table-wrap td, .gradio-container .table-wrap th { font-family: var(--font) !important; }
.files { justify-content: flex-start; }
.files button { max-width: 18rem; }
.form:has(> #version) { max-width: 22rem; }
#sound { padding-top: 2rem; }
.canvas .image-container { padding-top: 2rem; }
.black .image-container img { background: #000; }
.black { background: #000 !important; }
.dark button[role=tab][aria-selected=true] { color: var(--primary-300) !important; }
.cross img { cursor: crosshair; }
.pixelated img { image-rendering: pixelated; }
.pager { align-items: center; }
.visually-hidden { position: absolute !important; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap; border: 0; padding: 0; margin: -1px; min-width: 0 !important; }
@media (max-width: 640px) {
  .places > ul { justify-content: flex-start; gap: .1rem; }
  .places a, .places summary { padding: .35rem .45rem !important; }
  .places > ul > li:has(details[open]) { flex-basis: 100%; }
  .places details > ul { position: static; columns: auto; width: auto; max-width: none; max-height: none; }
  .places details a { padding: .6rem .6rem !important; }
  .page h1 { font-size: 1.35rem; }
  .tiles b { font-size: 1.15rem; }
  .gallery-sheet .grid-container { grid-template-columns: repeat(2, minmax(0, 1fr)) !important; }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .facts { grid-template-columns: 1fr; gap: 0; }
  .facts dd { margin-bottom: .4rem; }
  .wide th, .wide td { padding: .4rem .55rem; }
}
"""
