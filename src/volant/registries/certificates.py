# SPDX-License-Identifier: Apache-2.0
"""Whom to trust as a registry: the machine's own authorities, and those of certs.d (containers-certs.d(5))."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from volant.errors import InvalidInput


def make_tls_context(host: str, *, is_checked: bool) -> ssl.SSLContext:
    """`is_checked`: not on loopback, where nobody is in between. InvalidInput for a file that is no certificate."""
    context = ssl.create_default_context()
    if not is_checked:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    # Authorities that companies made once lack what newer rules want; Go's programs take them.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    folder = next((place for place in _list_folders(host) if place.is_dir()), None)
    for path in sorted(folder.iterdir()) if folder is not None else ():
        try:
            if path.suffix == ".crt":
                context.load_verify_locations(path)
            elif path.suffix == ".cert" and (key := path.with_suffix(".key")).exists():
                context.load_cert_chain(path, key)
        except (OSError, ValueError) as error:
            raise InvalidInput(f"cannot read the certificate {path}: {error}") from error
    return context


def _list_folders(host: str) -> list[Path]:
    own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "containers"
    return [folder / "certs.d" / host for folder in (own, Path("/etc/containers"), Path("/etc/docker"))]
