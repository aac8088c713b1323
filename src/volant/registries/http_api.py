# SPDX-License-Identifier: Apache-2.0
"""A registry's own HTTP API, for the few questions that skopeo does not ask (OCI distribution-spec 1.1).

Logins, certificates and plain HTTP on loopback are as skopeo has them; mirrors and `registries.conf` are not read.
"""

from __future__ import annotations

import json
import re
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from volant.errors import InvalidInput, NotPermitted, Unreachable
from volant.registries.certificates import make_tls_context
from volant.registries.logins import Login, find_login
from volant.registries.references import is_on_loopback

TIMEOUT_SECONDS = 30.0
# For a whole answer, of a registry that sends a byte now and then.
MOST_SECONDS = 120.0
# As registries hold it for manifests, of which these answers are.
MOST_BYTES = 4 << 20
_HUB, _HUB_HOST = "docker.io", "registry-1.docker.io"
_FIELD = re.compile(r'([a-z]+)="([^"]*)"')
_LINK = re.compile(r"<([^<>]*)>([^<>]*)")
_NEXT = re.compile(r'\brel="?next\b')


@dataclass(frozen=True, slots=True)
class Reply:
    """`headers` by small letters."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


class RegistryApi:
    """One repository, HOST/PATH, asked as this user."""

    def __init__(self, repository: str) -> None:
        self.repository = repository
        host, _, self.name = repository.partition("/")
        self._is_local = is_on_loopback(host)
        self._bases = [f"https://{_HUB_HOST if host == _HUB else host}"]
        if self._is_local:
            self._bases.append(f"http://{host}")
        self._opener = _make_opener(host, self._is_local)
        self._authorization = ""

    def get(self, path: str, kind: str) -> Reply:
        """`path` below the repository. Raises Unreachable, NotPermitted, and InvalidInput for too long an answer."""
        return self._ask("GET", path, {"Accept": kind})

    def put(self, path: str, content: bytes, kind: str) -> Reply:
        return self._ask("PUT", path, {"Content-Type": kind}, content)

    def find_next(self, path: str, reply: Reply) -> str | None:
        """The path of the page behind this one (RFC 8288), if it is of this registry and repository."""
        base = f"{self._bases[0]}/v2/{self.name}/"
        for target, parameters in _LINK.findall(reply.headers.get("link", "")):
            address: str = urllib.parse.urljoin(base + path, target)
            if _NEXT.search(parameters) and address.startswith(base):
                return address[len(base) :]
        return None

    def _ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Reply:
        reply = self._send(method, path, headers, body)
        if reply.status == 401:
            self._authorization = self._log_in(reply.headers.get("www-authenticate", ""))
            reply = self._send(method, path, headers, body)
        if reply.status in (401, 403):
            raise NotPermitted(
                f"cannot ask {self.repository} for {path}: the registry does not let you",
                resolution="log in with skopeo, podman or docker login",
            )
        return reply

    def _send(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        sent = {**headers, **({"Authorization": self._authorization} if self._authorization else {})}
        while True:
            try:
                return self._open(method, f"{self._bases[0]}/v2/{self.name}/{path}", sent, body)
            except ssl.SSLCertVerificationError as error:
                raise NotPermitted(
                    f"cannot ask {self.repository}: the registry's certificate is not trusted here",
                    details=str(error),
                    resolution="put the certificate of its CA into ~/.config/containers/certs.d/HOST:PORT/ca.crt",
                ) from error
            except (OSError, HTTPException) as error:
                if len(self._bases) > 1:  # plain HTTP, then
                    del self._bases[0]
                    continue
                raise Unreachable(f"cannot ask {self.repository}: {error}") from error

    def _open(self, method: str, address: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        request = urllib.request.Request(address, body, dict(headers), method=method)  # noqa: S310  # https, or loopback
        try:
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                return _read(answer, self.repository)
        except urllib.error.HTTPError as error:
            with error:
                return _read(error, self.repository)
        except urllib.error.URLError as error:
            raise error.reason if isinstance(error.reason, OSError) else OSError(error.reason) from error

    def _log_in(self, challenge: str) -> str:
        """What to send as Authorization (distribution's "Token Authentication Specification")."""
        login = find_login(self.repository)
        scheme, _, rest = challenge.strip().partition(" ")
        if scheme.lower() == "basic":
            return login.basic if login is not None else ""
        fields = dict(_FIELD.findall(rest))
        realm = fields.get("realm", "")
        if scheme.lower() != "bearer" or not realm.startswith(("https://", *(["http://"] * self._is_local))):
            return ""
        asked = {name: fields[name] for name in ("service", "scope") if name in fields}
        return f"Bearer {self._fetch_token(realm, asked, login)}"

    def _fetch_token(self, realm: str, asked: Mapping[str, str], login: Login | None) -> str:
        if login is not None and login.identity_token:
            form = {**asked, "grant_type": "refresh_token", "refresh_token": login.identity_token}
            body = urllib.parse.urlencode({**form, "client_id": "volant"}).encode()
            reply = self._reach(realm, "POST", {}, body)
        else:
            joint = "&" if "?" in realm else "?"
            headers = {"Authorization": login.basic} if login is not None else {}
            reply = self._reach(f"{realm}{joint}{urllib.parse.urlencode(asked)}", "GET", headers, None)
        try:
            found: Any = json.loads(reply.body)
            token = found.get("token") or found.get("access_token")
        except (ValueError, AttributeError, RecursionError):
            token = None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise NotPermitted(
                f"cannot ask {self.repository}: the registry's token service answered {reply.status}",
                resolution="log in with skopeo, podman or docker login",
            )
        return token

    def _reach(self, address: str, method: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        try:
            return self._open(method, address, headers, body)
        except (OSError, HTTPException, ValueError) as error:
            raise Unreachable(f"cannot ask {self.repository}: its token service: {error}") from error


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A login is for whom it was sent to."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        return None


def _make_opener(host: str, is_local: bool) -> urllib.request.OpenerDirector:
    proxies = [urllib.request.ProxyHandler({})] if is_local else []
    context = make_tls_context(host, is_checked=not is_local)
    return urllib.request.build_opener(_NoRedirect, urllib.request.HTTPSHandler(context=context), *proxies)


def _read(answer: Any, repository: str) -> Reply:
    """Bounded in bytes and time."""
    deadline = time.monotonic() + MOST_SECONDS
    content = b""
    while chunk := answer.read1(1 << 16):
        content += chunk
        if len(content) > MOST_BYTES or time.monotonic() > deadline:
            raise InvalidInput(f"cannot read what {repository} answers: it is too long")
    headers: dict[str, str] = {}
    for name, value in answer.headers.items():
        headers.setdefault(name.lower(), value)
    return Reply(answer.status, headers, content)
