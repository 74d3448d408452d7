"""Series: a plot per variable with its real times, or channels one above the other in a window of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
import numpy.typing as npt

from sensorium.serve.pages import drawing
from sensorium.serve.pages.spoken import spoken
from sensorium.serve.pages.theme import SERIES
from sensorium.serve.pages.viewers.canvas import QUIET

if TYPE_CHECKING:
    from sensorium.catalog.declaration import Declaration
    from sensorium.catalog.sample import Sample

__all__ = ["lanes", "observations", "show"]

#: variables and channels that are drawn at first, and at most
_FIRST, _MOST = 6, 32
#: points of one trace are at most twice this
_POINTS = 600
#: dots of one variable
_DOTS = 4000
_WINDOWS = (2.0, 5.0, 10.0, 30.0, 60.0, 300.0)


def show(sample: Sample, declaration: Declaration) -> None:
    """Whichever of the two forms the sample has; both, if it has both."""
    if "signal" in sample:
        _show_signal(sample)
    if "values" in sample:
        _show_observations(sample, declaration)


# -- irregular ---------------------------------------------------------------------------------------------------------


def _show_observations(sample: Sample, declaration: Declaration) -> None:
    times, variables, values = (np.asarray(sample[name]) for name in ("times", "variables", "values"))
    names = _names(sample, variables)
    found, counts = np.unique(variables, return_counts=True)
    frequent = [int(one) for one in found[np.argsort(-counts, kind="stable")]]
    unit = declaration.fields["times"].unit or "h"
    count = dict(zip(found.tolist(), counts.tolist(), strict=True))
    chosen = gr.Dropdown(
        [(f"{names[one]} ({count[one]})", one) for one in frequent],
        value=frequent[:_FIRST],
        multiselect=True,
        max_choices=_MOST,
        label="Variables (observations)",
        elem_id="variables",
        interactive=True,
    )

    @spoken
    def drawn(wanted: list[int]) -> Any:
        parts = {names[one]: (times[variables == one], values[variables == one]) for one in wanted}
        return observations(parts, unit)

    plot = gr.Plot(drawn(frequent[:_FIRST]), label="Observations", elem_id="observations")
    gr.Markdown(f"{len(times)} observations of {len(frequent)} variables.")
    chosen.change(drawn, chosen, plot, **QUIET)


def _names(sample: Sample, variables: npt.NDArray[Any]) -> dict[int, str]:
    named = sample.get("variable_names")
    known = list(named) if named is not None else []
    return {int(one): known[int(one)] if int(one) < len(known) else f"variable {one}" for one in np.unique(variables)}


def observations(parts: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]], unit: str) -> Any:
    """A lane for each variable: times [N] and values [N] as dots that are joined, all over the same times."""
    import plotly.graph_objects as go

    count = max(1, len(parts))
    drawn = drawing.figure(x=f"time ({unit})", height=90 + 120 * count)
    room = 1 / count
    for lane, (name, (times, values)) in enumerate(parts.items()):
        kept = slice(None, None, max(1, len(times) // _DOTS))
        axis = "y" if lane == 0 else f"y{lane + 1}"
        drawn.add_trace(
            go.Scatter(
                x=times[kept].tolist(),
                y=values[kept].tolist(),
                name=name,
                yaxis=axis,
                mode="lines+markers",
                line={"width": 1, "color": SERIES[lane % len(SERIES)]},
                marker={"size": 5},
                hovertemplate=f"%{{y:.4g}} at %{{x:.4g}} {unit}<extra>{_plain(name)}</extra>",
            )
        )
        top = 1 - lane * room
        domain = [max(0.0, top - room * 0.84), top]
        drawn.update_layout({f"yaxis{'' if lane == 0 else lane + 1}": _lane_axis(name, domain)})
    drawn.update_layout(showlegend=False)
    drawn.update_xaxes(anchor="free", position=0)
    return drawn


def _lane_axis(name: str, domain: list[float]) -> dict[str, Any]:
    return {"title": {"text": _plain(name)}, "domain": domain, "anchor": "x", "gridcolor": "#dde3e4", "zeroline": False}


def _plain(text: str) -> str:
    """Text that plotly does not read as markup or as a template."""
    return text.replace("<", "‹").replace(">", "›").replace("%{", "% {")


# -- regular -----------------------------------------------------------------------------------------------------------


def _show_signal(sample: Sample) -> None:
    view, rate = sample.view("signal"), float(sample["sampling_rate"])
    channels, length = view.shape[0], view.shape[1] / rate
    names = [str(name) for name in sample.get("channels") or [f"channel {index}" for index in range(channels)]]
    windows = [(f"{seconds:g} s", seconds) for seconds in _WINDOWS if seconds < length] + [
        (f"all {length:.4g} s", length)
    ]
    begun = next((seconds for _, seconds in windows if seconds >= 10), length)
    first = list(range(min(channels, _MOST)))
    with gr.Row():
        window = gr.Dropdown(
            windows,
            value=begun,
            label="Window",
            min_width=120,
            scale=1,
            filterable=False,
            elem_id="window",
            interactive=True,
        )
        start = gr.Slider(
            0,
            max(length, 1e-6),
            0,
            step=max(length / 600, 1 / rate),
            label="From second",
            scale=3,
            elem_id="start",
            interactive=True,
        )
    chosen = gr.Dropdown(
        list(zip(names, range(channels), strict=True)),
        value=first,
        multiselect=True,
        max_choices=_MOST,
        label="Channels",
        interactive=True,
    )

    @spoken
    def drawn(seconds: float, begin: float, wanted: list[int]) -> Any:
        begin = max(0.0, min(begin, length - seconds))
        part = slice(int(begin * rate), min(view.shape[1], int((begin + seconds) * rate) + 1))
        traces = np.asarray(view[:, part])[sorted(wanted)]
        return lanes(traces, [names[one] for one in sorted(wanted)], rate, part.start / rate)

    plot = gr.Plot(drawn(begun, 0.0, first), label="Signal", elem_id="signal")
    gr.Markdown(f"{channels} channels at {rate:g} Hz, {view.dtype.name}. Peaks are kept where a trace is thinned out.")
    inputs = [window, start, chosen]
    # one event for all three: of two that run at a time, the older answer could come last
    gr.on([window.input, start.input, chosen.change], drawn, inputs, plot, trigger_mode="always_last", **QUIET)


def lanes(traces: npt.NDArray[Any], names: Sequence[str], rate: float, start: float) -> Any:
    """``traces`` [C, T] at ``rate`` Hz from ``start`` s, one above the other in one scale; hovering tells the value."""
    import plotly.graph_objects as go

    count = len(traces)
    drawn = drawing.figure(x="time (s)", height=140 + max(26, 60 - count) * count)
    spread = [float(np.nanmax(trace) - np.nanmin(trace)) for trace in traces if np.isfinite(trace).any()]
    gap = float(np.median(spread)) * 1.05 if spread and np.median(spread) > 0 else 1.0
    for lane, (trace, name) in enumerate(zip(traces, names, strict=True)):
        positions, values = drawing.envelope(np.nan_to_num(trace.astype(np.float64)), _POINTS)
        middle = float(np.median(values)) if len(values) else 0.0
        drawn.add_trace(
            go.Scatter(
                x=np.round(start + positions / rate, 6).tolist(),
                y=(values - middle + (count - 1 - lane) * gap).tolist(),
                customdata=values.tolist(),
                mode="lines",
                line={"width": 1, "color": SERIES[lane % len(SERIES)]},
                hovertemplate=f"%{{customdata:.4g}} at %{{x:.4g}} s<extra>{_plain(name)}</extra>",
            )
        )
    ticks = [(count - 1 - lane) * gap for lane in range(count)]
    drawn.update_yaxes(tickvals=ticks, ticktext=[_plain(name) for name in names], zeroline=False, showgrid=False)
    drawn.update_layout(showlegend=False)
    return drawn
