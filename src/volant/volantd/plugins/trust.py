# SPDX-License-Identifier: Apache-2.0
"""The policy: which plugins are taken, by where they come from and whose keys signed them.

Each rule is for a repository ("registry.example.com/team/web"), for all below a place ("registry.example.com/team/*"),
for every registry ("*"), or for what comes from none ("local": files and http addresses). The narrowest counts. Without
rules everything is taken; with some, what none of them is for is refused: a policy that a copied file gets around is
none. It is asked when a plugin is installed. What is installed stays.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Literal

from volant.errors import InvalidInput, NotFound, NotPermitted
from volant.registries.references import find_repository, is_reference
from volant.signatures import bundle, simple_signing
from volant.signatures.keys import PublicKey, load_public_key
from volant.volantd.database import Database
from volant.volantd.plugins.evidence import Evidence

MIGRATIONS = (
    """
    CREATE TABLE trust_rules (
        scope TEXT PRIMARY KEY, verdict TEXT NOT NULL, keys TEXT NOT NULL
    ) STRICT;
    """,
)
LOCAL, EVERYWHERE = "local", "*"
Verdict = Literal["signed", "allow", "refuse"]
MOST_RULES, MOST_KEYS = 256, 16
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class TrustRule:
    """`keys` in PEM, any of which suffices; of "signed" alone."""

    scope: str
    verdict: Verdict
    keys: tuple[str, ...] = ()

    def is_for(self, repository: str) -> bool:
        """`repository` is empty for what comes from no registry."""
        if not repository or self.scope == LOCAL:
            return not repository and self.scope == LOCAL
        if self.scope.endswith("*"):
            return repository.startswith(self.scope[:-1])
        return repository == self.scope


def check_rule(rule: TrustRule) -> None:
    """Raises InvalidInput."""
    place = rule.scope.removesuffix("/*")
    is_place = is_reference(place) and find_repository(place) == place and "//" not in place
    is_host = is_reference(f"{place}/x") and "/" not in place
    if rule.scope not in (LOCAL, EVERYWHERE) and not is_place and not (is_host and rule.scope.endswith("/*")):
        raise InvalidInput(
            f"cannot set a rule for {rule.scope!r}: it is no place that plugins come from",
            resolution="name a repository without a tag (registry.example.com/team/web), all below a place"
            f" (registry.example.com/team/*), {EVERYWHERE!r} or {LOCAL!r}",
        )
    if (rule.verdict == "signed") != bool(rule.keys):
        raise InvalidInput(f"cannot set the rule for {rule.scope}: keys belong to 'signed', which needs one")
    if len(rule.keys) > MOST_KEYS:
        raise InvalidInput(f"cannot set the rule for {rule.scope}: it has more than {MOST_KEYS} keys")
    for pem in rule.keys:
        load_public_key(pem)


class TrustPolicy:
    def __init__(self, database: Database) -> None:
        self._database = database

    def list_all(self) -> list[TrustRule]:
        """By scope."""
        return [
            TrustRule(row["scope"], row["verdict"], tuple(json.loads(row["keys"])))
            for row in self._database.fetch_all("SELECT * FROM trust_rules ORDER BY scope")
        ]

    def set(self, rule: TrustRule) -> None:
        """In place of the one for the same scope."""
        host, slash, path = rule.scope.partition("/")
        rule = replace(rule, scope=f"{host.lower()}{slash}{path}")
        check_rule(rule)
        if len(self.list_all()) >= MOST_RULES:
            raise InvalidInput(
                f"cannot set the rule for {rule.scope}: there are {MOST_RULES}, which is the most"
            )
        self._database.execute(
            "INSERT OR REPLACE INTO trust_rules VALUES (?, ?, ?)",
            (rule.scope, rule.verdict, json.dumps(rule.keys)),
        )

    def remove(self, scope: str) -> None:
        if all(rule.scope != scope for rule in self.list_all()):
            raise NotFound(
                f"cannot find a rule for {scope!r}", resolution="see them all with: volar system policy show"
            )
        self._database.execute("DELETE FROM trust_rules WHERE scope = ?", (scope,))

    def find(self, rules: Iterable[TrustRule], reference: str) -> TrustRule | None:
        """The narrowest rule for what comes from here."""
        host, slash, path = find_repository(reference).partition("/") if reference else ("", "", "")
        repository = f"{host.lower()}{slash}{path}"  # names of hosts have no case
        return max(
            (rule for rule in rules if rule.is_for(repository)),
            key=lambda rule: (not rule.scope.endswith("*"), len(rule.scope)),
            default=None,
        )

    def judge(self, evidence: Evidence, source: str) -> Trial:
        """Whether a plugin with this may come in, as far as that can be told before it is there.

        Raises NotPermitted, InvalidInput.
        """
        if evidence.reference and not is_reference(evidence.reference):
            raise InvalidInput(f"cannot install {source}: {evidence.reference!r} is no place in a registry")
        rules = self.list_all()
        rule = self.find(rules, evidence.reference)
        if not rules or (rule is not None and rule.verdict == "allow"):
            return Trial(source)
        place = evidence.reference or LOCAL
        if rule is None or rule.verdict == "refuse":
            cause = (
                "no rule of the policy is for it" if rule is None else f"the rule for {rule.scope} says so"
            )
            raise _refuse(source, cause, f"volar system policy set {place} --key cosign.pub, or --allow")
        keys = [load_public_key(pem) for pem in rule.keys]
        if evidence.reference:
            return _judge_artifact(evidence, keys, rule, source)
        if not evidence.bundles:
            raise _refuse(
                source,
                f"it is not signed, and the rule for {LOCAL} requires it",
                "fledge build --sign-by KEY, or cosign sign-blob --key KEY --bundle FILE.sigstore.json FILE",
            )
        return FileTrial(source, keys, evidence.bundles)


def _refuse(source: str, cause: str, resolution: str = "") -> NotPermitted:
    return NotPermitted(f"cannot install {source}: {cause}", resolution=resolution)


def _judge_artifact(
    evidence: Evidence, keys: Sequence[PublicKey], rule: TrustRule, source: str
) -> ArtifactTrial:
    manifest = evidence.manifest.encode()
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    found = len(evidence.documents) + len(evidence.bundles)
    if not found:
        raise _refuse(
            source,
            f"it is not signed, and the rule for {rule.scope} requires it",
            f"volar plugins push PLUGIN {evidence.reference} --sign-by KEY, or cosign sign --key KEY",
        )
    if not any(
        simple_signing.is_trusted(keys, each.content, each.signature, digest) for each in evidence.documents
    ) and not any(bundle.is_artifact_trusted(keys, each, digest) for each in evidence.bundles):
        raise _refuse(
            source,
            f"none of its {found} signatures is of what it is, by a key of the rule for {rule.scope}",
            "see the keys with: volar system policy show -o json",
        )
    return ArtifactTrial(source, _read_parts(manifest, source))


def _read_parts(manifest: bytes, source: str) -> list[tuple[int, str]]:
    """Size and digest of each part of the archive. Whoever signed it may be trusted, not to write what makes sense."""
    try:
        layers = json.loads(manifest)["layers"]
        parts = [(layer["size"], layer["digest"]) for layer in layers]
    except (ValueError, KeyError, TypeError, RecursionError):
        parts = []
    if not parts or not all(_is_part(*part) for part in parts):
        raise InvalidInput(f"cannot install {source}: its manifest is not that of a plugin")
    return parts


def _is_part(size: Any, digest: Any) -> bool:
    return isinstance(size, int) and size > 0 and re.fullmatch("sha256:[0-9a-f]{64}", str(digest)) is not None


class Trial:
    """What is looked at while a plugin comes in. Of one that is taken as it is: nothing."""

    def __init__(self, source: str) -> None:
        self.source = source

    def watch(self, stream: BinaryIO) -> BinaryIO:
        """The stream to read the archive from."""
        return stream

    def finish(self) -> None:
        """The archive has been read. NotPermitted where it is not what was signed."""


class _Watched(io.RawIOBase):
    def __init__(self, stream: BinaryIO, trial: WatchingTrial) -> None:
        self._stream = stream
        self._trial = trial

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's WriteableBuffer has no len
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._trial.take(memoryview(data))
        return len(data)


class WatchingTrial(Trial):
    """Every byte counts, those behind the archive's end too."""

    _stream: BinaryIO

    def watch(self, stream: BinaryIO) -> BinaryIO:
        self._stream = io.BufferedReader(_Watched(stream, self), _CHUNK_BYTES)
        return self._stream

    def take(self, data: memoryview) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        while self._stream.read(_CHUNK_BYTES):
            pass
        if not self.is_as_signed():
            raise _refuse(
                self.source,
                "it is not what was signed",
                "it was changed or damaged on its way: fetch it again",
            )

    def is_as_signed(self) -> bool:
        raise NotImplementedError


class ArtifactTrial(WatchingTrial):
    """The archive is made of the parts that a signed manifest names."""

    def __init__(self, source: str, parts: Sequence[tuple[int, str]]) -> None:
        super().__init__(source)
        self._parts = list(reversed(parts))
        self._digest = hashlib.sha256()
        self._missing = parts[0][0]
        self._is_altered = False

    def take(self, data: memoryview) -> None:
        while data:
            if self._is_altered or not self._parts:
                self._is_altered = True
                return
            piece = data[: self._missing]
            self._digest.update(piece)
            self._missing -= len(piece)
            data = data[len(piece) :]
            if not self._missing:
                self._end_part()

    def _end_part(self) -> None:
        _, expected = self._parts.pop()
        self._is_altered = f"sha256:{self._digest.hexdigest()}" != expected
        self._digest = hashlib.sha256()
        self._missing = self._parts[-1][0] if self._parts else 0

    def is_as_signed(self) -> bool:
        return not self._is_altered and not self._parts


class FileTrial(WatchingTrial):
    """One of the bundles is a signature, by one of the keys, of the archive's digest."""

    def __init__(self, source: str, keys: Sequence[PublicKey], bundles: Sequence[bytes]) -> None:
        super().__init__(source)
        self._keys = keys
        self._bundles = bundles
        self._digest = hashlib.sha256()

    def take(self, data: memoryview) -> None:
        self._digest.update(data)

    def is_as_signed(self) -> bool:
        digest = self._digest.digest()
        return any(bundle.is_file_trusted(self._keys, each, digest) for each in self._bundles)
