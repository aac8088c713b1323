# SPDX-License-Identifier: Apache-2.0
"""skopeo, which talks to registries: logins, credential helpers, TLS and retries are its own."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from volant.errors import NotFound, NotPermitted, ToolFailed, Unreachable
from volant.process import find_tool, require_tool, run_in_terminal, run_tool
from volant.registries.layout import TAG
from volant.registries.references import is_on_loopback

_NO_ANSWER = re.compile(
    r"no such host|connection refused|i/o timeout|network is unreachable|TLS handshake", re.IGNORECASE
)
_NOT_KNOWN = re.compile(r"x509: |tls: failed to verify certificate", re.IGNORECASE)
_NOT_LET_IN = re.compile(r"unauthorized|authentication required|denied|invalid username", re.IGNORECASE)
_NOT_THERE = re.compile(r"manifest unknown|name unknown|not found|repository name not known", re.IGNORECASE)


def inspect(place: str, what: str) -> bytes:
    """The manifest that a registry has under a name. Raises NotFound, Unreachable, NotPermitted, ToolFailed."""
    tls = ["--tls-verify=false"] if is_on_loopback(place) else []
    return _run(["inspect", "--raw", *tls, f"docker://{place}"], what).encode("utf-8", "surrogateescape")


def push(folder: Path, place: str, what: str, *, quiet: bool = False) -> None:
    """A layout to a registry, without what that has already. `quiet`: too small for anybody to watch."""
    tls = ["--dest-tls-verify=false"] if is_on_loopback(place) else []
    ends = [f"oci:{folder}:{TAG}", f"docker://{place}"]
    _copy(folder, [*tls, *ends], what, quiet=quiet)


def pull(place: str, folder: Path, what: str, *, quiet: bool = False) -> None:
    """From a registry into a layout, without what that has already."""
    tls = ["--src-tls-verify=false"] if is_on_loopback(place) else []
    _copy(folder, [*tls, f"docker://{place}", f"oci:{folder}:{TAG}"], what, quiet=quiet)


def _copy(folder: Path, arguments: Sequence[str], what: str, *, quiet: bool) -> None:
    """skopeo shows its own bars to people; programs get its words only where it fails."""
    drafts = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(drafts, ignore_errors=True)  # of one that was killed
    drafts.mkdir(mode=0o700, parents=True)
    try:
        line = ["--tmpdir", str(drafts), "copy", "--retry-times", "3", *arguments]
        if quiet or not sys.stderr.isatty():
            _run(line, what)
        elif status := run_in_terminal([*_find_skopeo(), *line]):
            raise ToolFailed(f"cannot {what}: skopeo ended with {status}", resolution="see its output above")
    finally:
        shutil.rmtree(drafts, ignore_errors=True)


def _find_skopeo() -> list[str]:
    """It ends with us, killed or not: nobody else would wait for it, and the next one is to find its folder alone."""
    ending = [setpriv, "--pdeathsig", "KILL"] if (setpriv := find_tool("setpriv")) else []
    return [*ending, require_tool("skopeo"), "--insecure-policy"]


def _run(arguments: Sequence[str], what: str) -> str:
    try:
        return run_tool([*_find_skopeo(), *arguments], what=what).stdout
    except ToolFailed as error:
        words = str(error)
        if _NOT_KNOWN.search(words):
            raise NotPermitted(
                f"cannot {what}: the registry's certificate is not trusted here",
                details=error.details,
                resolution="put the certificate of its CA into ~/.config/containers/certs.d/HOST:PORT/ca.crt",
            ) from error
        if _NO_ANSWER.search(words):
            raise Unreachable(
                f"cannot {what}: no answer",
                details=error.details,
                resolution="check the name and the network",
            ) from error
        if _NOT_LET_IN.search(words):
            raise NotPermitted(
                f"cannot {what}: the registry does not let you",
                details=error.details,
                resolution="log in with skopeo, podman or docker login",
            ) from error
        if _NOT_THERE.search(words):
            raise NotFound(f"cannot {what}: it is not there", details=error.details) from error
        raise
