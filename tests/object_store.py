"""An S3-compatible store on loopback, in a process of its own, whose answers can be made to fail or to wait.

It is moto's server with three things before it: only one key is let in, as in a real store; conditional puts are made one at
a time, since moto looks first and writes then; and requests fail or wait as they are told to. Signatures are not checked.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

KEY, SECRET, REGION, BUCKET = "test-key", "test-secret", "eu-central-1", "lake-bucket"
_CONTROL = "/-control"

Start = Callable[..., Any]


@dataclass
class Trouble:
    """What happens to requests to the store.

    Attributes:
        fail_every: each so-manieth request is answered with ``status`` and does nothing; 0 for none.
        lose_every: each so-manieth is done, and answered with ``status`` all the same.
        stall_every, stall_s: each so-manieth waits so many seconds before anything is done.
        pace_s: every request waits so long.
        status: HTTP status of what fails.
    """

    fail_every: int = 0
    lose_every: int = 0
    stall_every: int = 0
    stall_s: float = 0.0
    pace_s: float = 0.0
    status: int = 503


@dataclass(frozen=True)
class Store:
    """A store that runs.

    Attributes:
        address: its URL.
        process: the server's.
    """

    address: str
    process: subprocess.Popen[str]

    def environment(self, key: str = KEY) -> dict[str, str]:
        """The variables by which every client of S3 finds it."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def trouble(self, **settings: Any) -> dict[str, int]:
        """From now on, requests fare like this; what was counted until now."""
        body = json.dumps(asdict(Trouble(**settings))).encode()
        request = urllib.request.Request(self.address + _CONTROL, data=body, method="PUT")
        with urllib.request.urlopen(request) as answer:
            counted: dict[str, int] = json.loads(answer.read())
        return counted

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def running() -> Iterator[Store]:
    """A store with one empty bucket, :data:`BUCKET`."""
    program = [sys.executable, "-W", "ignore", os.path.abspath(__file__)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            if process.stdout is None:
                raise RuntimeError("the store has no output")
            yield Store(f"http://127.0.0.1:{int(process.stdout.readline())}", process)
        finally:
            process.kill()


# -- in the server's process ------------------------------------------------------------------------------------------


class Gate:
    """The WSGI application in front of the store."""

    def __init__(self, store: Callable[[Mapping[str, Any], Start], Iterable[bytes]]) -> None:
        self._store, self._trouble = store, Trouble()
        self._alone, self._counting = threading.Lock(), threading.Lock()
        self._counts = {"requests": 0, "failed": 0, "lost": 0, "stalled": 0}

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        if environ["PATH_INFO"] == _CONTROL:
            return self._control(environ, start)
        body = environ["wsgi.input"].read(
            int(environ.get("CONTENT_LENGTH") or 0)
        )  # else it is the next request's beginning
        environ["wsgi.input"] = io.BytesIO(body)
        if f"Credential={KEY}/" not in environ.get("HTTP_AUTHORIZATION", ""):
            return _refusal(
                environ, start, 403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist."
            )
        fate = self._fate()
        if fate == "failed":
            return _refusal(environ, start, self._trouble.status, "SlowDown", "Please reduce your request rate.")
        if environ.get("HTTP_IF_NONE_MATCH"):
            with self._alone:
                answer = list(self._store(environ, start if fate != "lost" else _unheard))
        else:
            answer = list(self._store(environ, start if fate != "lost" else _unheard))
        if fate == "lost":
            return _refusal(environ, start, self._trouble.status, "InternalError", "We encountered an internal error.")
        return answer

    def _fate(self) -> str:
        """What becomes of this request: it fails, is lost, or comes through after whatever it has to wait."""
        with self._counting:
            self._counts["requests"] += 1
            number, trouble = self._counts["requests"], self._trouble
            fate = "failed" if _due(number, trouble.fail_every) else "lost" if _due(number, trouble.lose_every) else ""
            stalled = _due(number, trouble.stall_every)
            if fate:
                self._counts[fate] += 1
            self._counts["stalled"] += stalled
        time.sleep(trouble.pace_s + stalled * trouble.stall_s)
        return fate

    def _control(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        with self._counting:
            counted = json.dumps(self._counts).encode()
            self._trouble = Trouble(**json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))))
            self._counts = dict.fromkeys(self._counts, 0)
        start("200 OK", [("Content-Type", "application/json")])
        return [counted]


def _due(number: int, every: int) -> bool:
    return every > 0 and number % every == 0


def _unheard(*_: Any, **__: Any) -> Callable[[bytes], None]:
    return lambda _: None


def _refusal(environ: Mapping[str, Any], start: Start, status: int, code: str, message: str) -> Iterable[bytes]:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    start(f"{status} {code}", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def _serve() -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *_: Any) -> None:
            """Nobody reads it."""

    gate = Gate(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, gate, threaded=True, request_handler=Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    import boto3

    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{server.server_port}", region_name=REGION,
                          aws_access_key_id=KEY, aws_secret_access_key=SECRET)  # fmt: skip
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    threading.Event().wait()


if __name__ == "__main__":
    _serve()
