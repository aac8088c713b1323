# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path

import pytest

from support.signing_keys import make_key, write_public
from volant.errors import InvalidInput, NotFound, NotPermitted
from volant.signatures import bundle, simple_signing
from volant.volantd.database import Database
from volant.volantd.plugins.evidence import Evidence
from volant.volantd.plugins.trust import MIGRATIONS, Trial, TrustPolicy, TrustRule

KEY = make_key()
ARCHIVE = bytes(range(256)) * 40
PARTS = [ARCHIVE[:4000], ARCHIVE[4000:8000], ARCHIVE[8000:]]
MANIFEST = json.dumps(
    {
        "layers": [
            {"size": len(part), "digest": f"sha256:{hashlib.sha256(part).hexdigest()}"} for part in PARTS
        ]
    }
)
REFERENCE = "r.io/team/web:1"


@pytest.fixture
def policy(tmp_path: Path) -> TrustPolicy:
    database = Database(tmp_path / "db")
    database.bring_up_to_date({"plugins": MIGRATIONS})
    return TrustPolicy(database)


def make_evidence(reference: str = REFERENCE, manifest: str = MANIFEST) -> Evidence:
    digest = f"sha256:{hashlib.sha256(manifest.encode()).hexdigest()}"
    document = simple_signing.make_document("r.io/team/web", digest)
    signed = {
        "document_base64": base64.b64encode(document).decode(),
        "signature": simple_signing.sign_document(KEY, document),
    }
    return Evidence.model_validate({"reference": reference, "manifest": manifest, "documents": [signed]})


def make_file_evidence(content: bytes = ARCHIVE) -> Evidence:
    made = bundle.make_file_bundle(KEY, hashlib.sha256(content).digest())
    return Evidence(bundles_base64=[base64.b64encode(made).decode()])


def read(trial: Trial, archive: bytes, step: int = 1000) -> None:
    """As an install does, which stops where the archive's own end is."""
    stream = trial.watch(io.BytesIO(archive))
    for _ in range(3):
        stream.read(step)
    trial.finish()


def demand(policy: TrustPolicy, scope: str) -> None:
    policy.set(TrustRule(scope, "signed", (write_public(KEY),)))


def test_without_rules_everything_is_taken(policy: TrustPolicy) -> None:
    read(policy.judge(Evidence(), "a file"), b"anything")
    read(policy.judge(Evidence(reference="r.io/a:1"), "r.io/a:1"), b"anything")


def test_with_rules_what_none_is_for_is_refused(policy: TrustPolicy) -> None:
    demand(policy, "r.io/team/*")
    for evidence in (Evidence(), Evidence(reference="r.io/other:1"), Evidence(reference="r.io/teams/web:1")):
        with pytest.raises(NotPermitted, match="no rule of the policy is for it"):
            policy.judge(evidence, "it")
    policy.set(TrustRule("local", "allow"))
    read(policy.judge(Evidence(), "a file"), b"anything")


def test_the_narrowest_rule_counts(policy: TrustPolicy) -> None:
    policy.set(TrustRule("*", "refuse"))
    policy.set(TrustRule("r.io/*", "allow"))
    policy.set(TrustRule("r.io/team/*", "refuse"))
    policy.set(TrustRule("r.io/team/web", "allow"))
    rules = policy.list_all()
    for reference, scope in {
        "r.io/a:1": "r.io/*",
        "r.io/team/web@sha256:" + "0" * 64: "r.io/team/web",
        "R.IO/team/web": "r.io/team/web",
        "r.io/team/web2:1": "r.io/team/*",
        "other.io/a": "*",
    }.items():
        rule = policy.find(rules, reference)
        assert rule is not None
        assert rule.scope == scope
    assert policy.find(rules, "") is None


def test_what_was_signed_is_taken(policy: TrustPolicy) -> None:
    demand(policy, "*")
    demand(policy, "local")
    for step in (1, 1000, 1 << 20):
        read(policy.judge(make_evidence(), "web"), ARCHIVE, step)
        read(policy.judge(make_file_evidence(), "web"), ARCHIVE, step)


@pytest.mark.parametrize(
    "archive",
    [
        ARCHIVE[:-1],
        ARCHIVE + b"x",
        b"x" + ARCHIVE[1:],
        ARCHIVE[:5000] + b"x" + ARCHIVE[5001:],
        b"",
        ARCHIVE[4000:],
    ],
)
def test_what_was_altered_is_refused(policy: TrustPolicy, archive: bytes) -> None:
    demand(policy, "*")
    demand(policy, "local")
    for evidence in (make_evidence(), make_file_evidence()):
        with pytest.raises(NotPermitted, match="it is not what was signed"):
            read(policy.judge(evidence, "web"), archive)


def test_what_is_not_signed_by_a_key_of_the_rule(policy: TrustPolicy) -> None:
    policy.set(TrustRule("*", "signed", (write_public(make_key()),)))
    policy.set(TrustRule("local", "signed", (write_public(make_key()),)))
    with pytest.raises(NotPermitted, match="none of its 1 signatures is of what it is, by a key of the rule"):
        policy.judge(make_evidence(), "web")
    with pytest.raises(NotPermitted, match="it is not what was signed"):
        read(policy.judge(make_file_evidence(), "web"), ARCHIVE)
    for evidence in (Evidence(reference=REFERENCE, manifest=MANIFEST), Evidence()):
        with pytest.raises(NotPermitted, match="it is not signed"):
            policy.judge(evidence, "web")


def test_a_signature_of_another_manifest(policy: TrustPolicy) -> None:
    demand(policy, "*")
    other = make_evidence().model_copy(update={"manifest": MANIFEST + " "})
    with pytest.raises(NotPermitted, match="none of its 1 signatures"):
        policy.judge(other, "web")


@pytest.mark.parametrize(
    "manifest", ["", "[]", "{}", '{"layers": []}', '{"layers": [{"size": 0, "digest": "x"}]}', "[" * 100_000]
)
def test_a_signed_manifest_that_makes_no_sense(policy: TrustPolicy, manifest: str) -> None:
    demand(policy, "*")
    with pytest.raises(InvalidInput, match="not that of a plugin"):
        policy.judge(make_evidence(manifest=manifest), "web")


@pytest.mark.parametrize(
    "scope", ["", "web", "r.io/web:1", "r.io/*/web", "r.io*", "local/*", "docker://r.io/a"]
)
def test_scopes_that_are_none(policy: TrustPolicy, scope: str) -> None:
    with pytest.raises(InvalidInput, match="no place that plugins come from"):
        policy.set(TrustRule(scope, "allow"))


def test_rules_that_are_none(policy: TrustPolicy) -> None:
    with pytest.raises(InvalidInput, match="needs one"):
        policy.set(TrustRule("*", "signed"))
    with pytest.raises(InvalidInput, match="no public key"):
        policy.set(TrustRule("*", "signed", ("words",)))
    with pytest.raises(NotFound, match="cannot find a rule"):
        policy.remove("*")
    demand(policy, "localhost:5000/*")
    policy.remove("localhost:5000/*")
    assert policy.list_all() == []
