"""Video: the stream as it came, once it has been found to be one and within the limits."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

from sensorium.platform.optional import require
from sensorium.serve.uploads._upload import Upload, target, too_large
from sensorium.serve.uploads.errors import RejectedUpload

__all__ = ["STREAM", "read_video"]

STREAM = "B"
#: FFmpeg's demuxer of each kind: no other is tried, so that no playlist or list of files is ever followed
_DEMUXERS = {"mp4": "mov", "matroska": "matroska", "avi": "avi"}


def read_video(upload: Upload) -> dict[str, Any]:
    """``encoded`` [B], the file's bytes, and ``frame_rate`` in Hz.

    Frames are counted by their packets, whatever the header says, and the first one is decoded. A stream can change its
    size later on: who decodes it compares each frame.

    Raises:
        RejectedUpload: 413 too large or too long, 422 damaged, or no video.
    """
    av = require("av", "look into videos")
    field = target(upload)
    options = {"protocol_whitelist": "", "enable_drefs": "0"}
    try:
        with av.open(io.BytesIO(upload.data), format=_DEMUXERS[upload.kind], options=options) as container:
            if not container.streams.video:
                raise RejectedUpload(f"{upload.label}: holds no video stream. Send one that does.")
            stream = container.streams.video[0]
            _check_size(upload, stream.codec_context.width, stream.codec_context.height)
            stream.codec_context.thread_count = 1
            rate = float(stream.average_rate or stream.guessed_rate or 0)
            _check_frames(upload, container, stream)
    except (RejectedUpload, MemoryError):
        raise
    except Exception as error:  # FFmpeg's errors are of many kinds
        raise RejectedUpload(
            f"{upload.label}: cannot be decoded as video ({type(error).__name__}). Export it anew."
        ) from error
    sample: dict[str, Any] = {field.name: np.frombuffer(upload.data, np.uint8)}
    if "frame_rate" not in upload.scalars:
        if not (math.isfinite(rate) and rate > 0):
            raise RejectedUpload(f"{upload.label}: says nothing of its frame rate. Send frame_rate with the scalars.")
        sample["frame_rate"] = rate
    return sample


def _check_size(upload: Upload, width: int, height: int) -> None:
    if width * height > upload.limits.pixels:
        size = f"pixels ({width} x {height})"
        raise too_large(upload, size, width * height, upload.limits.pixels, "Scale it down.")


def _check_frames(upload: Upload, container: Any, stream: Any) -> None:
    """Decode the first frame, and count the packets of all."""
    count, decoded = 0, False
    for packet in container.demux(stream):
        if packet.size == 0:  # the end
            continue
        count += 1
        if count > upload.limits.frames:
            raise too_large(upload, "frames or more", count, upload.limits.frames, "Send a shorter piece.")
        if not decoded:
            for frame in packet.decode():
                _check_size(upload, frame.width, frame.height)
                decoded = True
    if not decoded and not _flushed(upload, stream):
        raise RejectedUpload(f"{upload.label}: none of its {count} packets can be decoded. Export it anew.")


def _flushed(upload: Upload, stream: Any) -> bool:
    """Whether a decoder that holds frames back gives one at the end."""
    for frame in stream.codec_context.decode(None):
        _check_size(upload, frame.width, frame.height)
        return True
    return False
