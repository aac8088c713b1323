# SPDX-License-Identifier: Apache-2.0
"""Names of things in registries: HOST/PATH[:TAG][@DIGEST]."""

from __future__ import annotations

import re

from volant.errors import InvalidInput

_REFERENCE = re.compile(
    r"(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?|\[[0-9a-fA-F:]+\](:[0-9]{1,5})?)"
    r"(/[a-z0-9]+([._-]+[a-z0-9]+)*)+(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
_TAG_OR_DIGEST = re.compile(r"(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@.*)?$")


def is_reference(text: str) -> bool:
    """Whether this names something in a registry: HOST/PATH[:TAG], whose host has a dot or a port, or is localhost."""
    match = _REFERENCE.fullmatch(text.removeprefix("docker://"))
    host = match["host"] if match else ""
    return host == "localhost" or any(character in host for character in ".:[")


def is_on_loopback(reference: str) -> bool:
    """Whether a registry is on this machine, where plain HTTP is allowed as Docker allows it."""
    host = reference.lstrip("/").partition("/")[0]
    return re.fullmatch(r"(localhost|127(\.\d+){3}|\[::1\])(:\d+)?", host) is not None


def check_reference(reference: str) -> str:
    """A reference as skopeo wants it. Raises InvalidInput."""
    if not is_reference(reference):
        raise InvalidInput(
            f"cannot use {reference!r} as a place in a registry",
            resolution="name registry, repository and tag: registry.example.com/team/nginx:1.27 (of an image,"
            " fledge build --image makes a plugin)",
        )
    return reference.removeprefix("docker://")


def find_repository(place: str) -> str:
    """Without tag and digest: HOST/PATH."""
    host, _, path = place.partition("/")
    return f"{host}/{_TAG_OR_DIGEST.sub('', path)}"
