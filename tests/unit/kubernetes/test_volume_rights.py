# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any, cast

from volant.kubernetes.volume_rights import POLICY, ROLE, allow_volumes, disallow_volumes


class FakeAdmin:
    """What is applied, in order, and what is deleted."""

    def __init__(self) -> None:
        self.applied: list[Any] = []
        self.deleted: list[str] = []

    def apply(self, made: Any, **_: Any) -> None:
        self.applied.append(made)

    def delete(self, _: Any, name: str) -> None:
        self.deleted.append(name)


def test_the_policy_is_there_before_the_role_and_the_role_is_this_nodes_alone() -> None:
    admin = FakeAdmin()
    allow_volumes(cast("Any", admin), "rack-7")
    assert [type(made).__name__ for made in admin.applied] == [
        "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "StorageClass", "ClusterRole",
        "ClusterRoleBinding",
    ]  # fmt: skip
    policy, binding, _, role, given = admin.applied
    assert policy.spec.failurePolicy == "Fail"
    assert (binding.spec.policyName, binding.spec.validationActions) == (POLICY, ["Deny"])
    assert [(subject.kind, subject.name) for subject in given.subjects] == [("User", "system:node:rack-7")]
    assert given.roleRef.name == ROLE
    writing = {"create", "update", "patch", "delete", "deletecollection"}
    assert {kind: sorted(writing & set(rule.verbs)) for rule in role.rules for kind in rule.resources} == {
        "persistentvolumes": ["create", "delete", "patch"],
        "persistentvolumeclaims": [],
        "storageclasses": [],
    }
    disallow_volumes(cast("Any", admin), "rack-7")
    assert admin.deleted == [given.metadata.name]
