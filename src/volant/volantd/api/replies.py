# SPDX-License-Identifier: Apache-2.0
"""Replies other than JSON, each a class of its own: the API's description takes the media type from it."""

from __future__ import annotations

from starlette.responses import FileResponse, PlainTextResponse, StreamingResponse


class EventStream(StreamingResponse):
    """Server-sent events (HTML standard, section 9.2)."""

    media_type = "text/event-stream"


class JsonLines(StreamingResponse):
    """One JSON document a line."""

    media_type = "application/x-ndjson"


class TextStream(StreamingResponse):
    media_type = "text/plain"


class TarStream(StreamingResponse):
    media_type = "application/x-tar"


class Metrics(PlainTextResponse):
    """Prometheus' text format."""

    media_type = "text/plain; version=0.0.4"


class Program(FileResponse):
    media_type = "application/octet-stream"


class ByteStream(StreamingResponse):
    media_type = "application/octet-stream"
