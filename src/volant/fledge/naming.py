# SPDX-License-Identifier: Apache-2.0
"""A plugin's name, version and port where no recipe says them: from an image's tag, a folder, EXPOSE."""

from __future__ import annotations

import re
from collections.abc import Sequence

from volant.contract.names import is_version
from volant.digits import is_whole_number

DEFAULT_VERSION = "0.1.0"
# Ports on which a web server is meant unless told otherwise; on all others a plain TCP service.
HTTP_PORTS = frozenset({80, 3000, 4000, 5000, 8000, 8080, 8081, 8888, 9090})


def clean_name(text: str) -> str:
    """The nearest name that a plugin may have; empty where nothing of the text is usable."""
    return re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:63]


def split_reference(reference: str) -> tuple[str, str | None]:
    """`docker.io/library/my-app:1.2.0` → ("my-app", "1.2.0"); None where the tag is no semantic version."""
    without_digest = reference.partition("@")[0]
    path, _, last = without_digest.rpartition("/")
    del path
    name, _, tag = last.partition(":")
    version = tag.removeprefix("v")
    return clean_name(name), version if is_version(version) and len(version) <= 128 else None


def choose_port(exposed: Sequence[str]) -> int | None:
    """The port that people most likely mean: a web server's, else the lowest TCP port that is exposed."""
    ports = []
    for text in exposed:
        number, _, protocol = text.partition("/")
        if protocol in ("", "tcp") and is_whole_number(number) and 1 <= int(number) <= 65535:
            ports.append(int(number))
    return min(ports, key=lambda port: (port not in HTTP_PORTS, port), default=None)
