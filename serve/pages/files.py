"""Files to download: each in a fresh private folder, gone an hour later."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from sensorium.serve.pages.spoken import spoken

__all__ = ["fresh_folder", "offer"]

#: seconds; Gradio copies a file into its own cache at once, so ours need not live long
_KEPT_S = 3600.0
_lock = threading.Lock()
_made: list[tuple[float, Path]] = []


def fresh_folder() -> Path:
    """A new folder of this process's own; those that it made more than an hour ago are removed."""
    folder = Path(tempfile.mkdtemp(prefix="sensorium-"))
    now = time.monotonic()
    with _lock:
        old = [path for made, path in _made if now - made > _KEPT_S]
        _made[:] = [(made, path) for made, path in _made if now - made <= _KEPT_S] + [(now, folder)]
    for path in old:
        with contextlib.suppress(OSError):
            shutil.rmtree(path)
    return folder


def offer(label: str, make: Callable[..., Any], inputs: Sequence[Any] = (), *, name: str) -> gr.Button:
    """A button that makes a file and downloads it.

    Args:
        label: of the button.
        make: a function or coroutine that gets the values of ``inputs`` and returns the file's path, in a
            :func:`fresh_folder`.
        inputs: components.
        name: that no other download of the page has.
    """
    button = gr.Button(label, size="sm", min_width=120)
    target = gr.DownloadButton(label, elem_id=f"download-{name}", elem_classes="visually-hidden")

    @spoken
    async def made(*values: Any) -> str:
        if inspect.iscoroutinefunction(make):
            return str(await make(*values))
        return str(await asyncio.to_thread(make, *values))

    # the address of the new file reaches the hidden button a moment after the event has ended
    click = (
        f"() => setTimeout(() => {{ const b = document.getElementById('download-{name}');"
        " (b.matches('a,button') ? b : b.querySelector('a,button')).click(); }, 300)"
    )
    button.click(made, list(inputs), target, show_progress="minimal", api_visibility="private").success(None, js=click)
    return button
