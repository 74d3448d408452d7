"""``sensorium serve``."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import typer

from sensorium.catalog.cli import open_catalog
from sensorium.platform.cli import state
from sensorium.platform.errors import InvalidSetting

__all__ = ["app"]

#: requests a second of one client from elsewhere: a page takes some sixty at once, and twice as many are saved up
_RATE = 200.0

app = typer.Typer(add_completion=False, help="Serve the models, data sets and sweeps of a lake: pages and REST API.")


@app.command()
def serve(
    context: typer.Context,
    host: str = typer.Option("127.0.0.1", help="Address to listen on; another than loopback needs a sign-in."),
    port: int = typer.Option(8000, help="0 takes one that is free."),
    token_file: Path = typer.Option(
        None, metavar="FILE", help="File with the token that clients must give (or SENSORIUM_TOKEN)."
    ),
    proxy_header: str = typer.Option(
        "", metavar="NAME", help="Header in which a proxy that signs people in names the user."
    ),
    proxies: list[str] = typer.Option(
        ["127.0.0.1", "::1"], "--proxy", metavar="ADDRESS", help="Where that header is believed from; repeatable."
    ),
    names: list[str] = typer.Option(
        [], "--name", metavar="HOST", help="Host name under which people reach it; repeatable."
    ),
    replicas: str = typer.Option("1:2", metavar="LEAST:MOST", help="Processes that hold models."),
    resident: int = typer.Option(4, help="Models that each of them keeps loaded."),
    queue: int = typer.Option(256, help="Requests that may wait for one of them; further ones are sent away with 503."),
    rate: float = typer.Option(
        None, help="Requests a second that one client may make, 0 for any number; 200 where other machines are let in."
    ),
    body_mb: int = typer.Option(64, help="Size of a request, at most."),
    seconds: float = typer.Option(60.0, help="Time of a prediction, at most."),
    pages: bool = typer.Option(True, "--pages/--no-pages", help="Serve the front end beside the API."),
    log: Path = typer.Option(None, metavar="FILE", help="Log into this file: a JSON object a line, a line a request."),
) -> None:
    """Serve the lake until Ctrl-C; everything that was started ends with it."""
    from sensorium.serve.application import serving
    from sensorium.serve.options import ServeOptions

    options = ServeOptions(
        host=host,
        port=port,
        token=_token(token_file),
        proxy_header=proxy_header,
        proxies=tuple(proxies),
        names=tuple(names),
        replicas=_range(replicas),
        resident=resident,
        waiting=queue,
        rate=rate if rate is not None else _usual_rate(host),
        body_bytes=body_mb << 20,
        seconds=seconds,
        pages=pages,
        log=str(log.resolve()) if log else "",
    )
    catalog = open_catalog(context)
    stop = threading.Event()
    with serving(catalog.storage, options, state(context).settings) as served:
        # only now: what starts Ray and Serve sets handlers of its own
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        typer.echo(f"Sensorium serves {catalog.storage.url} at {served.address}")
        typer.echo(f"  API {served.address}/docs    stop with Ctrl-C")
        stop.wait()
        typer.echo("stopping")


def _usual_rate(host: str) -> float:
    from sensorium.serve.options import is_loopback

    return 0.0 if is_loopback(host) else _RATE


def _token(file: Path | None) -> str:
    if file is None:
        return os.environ.get("SENSORIUM_TOKEN", "").strip()
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"--token-file {file} cannot be read: {error}. Write the token into it.") from error


def _range(text: str) -> tuple[int, int]:
    low, _, high = text.partition(":")
    try:
        return int(low), int(high or low)
    except ValueError as error:
        raise InvalidSetting(f"--replicas is LEAST:MOST, such as 1:4; got {text!r}.") from error
