# SPDX-License-Identifier: Apache-2.0
"""What an administrator adds to a cluster so that a node may make volumes, and nothing else with it.

Kubernetes lets a node see the claims of its own pods only, and make no PersistentVolumes. A role gives each node of
ours both; since a role cannot say which objects, an admission policy holds every node to volumes that lie on itself,
are of a class of ours, and are made for a claim; what it has made it may not change.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from lightkube import Client
from lightkube.core.exceptions import ApiError
from lightkube.models.admissionregistration_v1 import (
    MatchCondition,
    MatchResources,
    NamedRuleWithOperations,
    ValidatingAdmissionPolicyBindingSpec,
    ValidatingAdmissionPolicySpec,
    Validation,
    Variable,
)
from lightkube.models.core_v1 import TopologySelectorLabelRequirement, TopologySelectorTerm
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.models.rbac_v1 import PolicyRule, RoleRef, Subject
from lightkube.resources.admissionregistration_v1 import (
    ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding,
)
from lightkube.resources.rbac_authorization_v1 import ClusterRole, ClusterRoleBinding
from lightkube.resources.storage_v1 import StorageClass

from volant.kubernetes.certificate import NODE_PREFIX
from volant.kubernetes.persistent_volumes import (
    CLASS,
    HOSTNAME,
    NAME_PREFIX,
    PATH_PREFIX,
    PROVISIONED_BY,
    PROVISIONER,
)

ROLE = "volant:volumes"
POLICY = "volumes.volant.dev"
MANAGER = "volar"

_ONLY_THIS_NODE = (
    "variables.volumes.all(one, has(one.spec.nodeAffinity)"
    " && one.spec.nodeAffinity.required.nodeSelectorTerms.size() == 1"
    " && one.spec.nodeAffinity.required.nodeSelectorTerms.all(term, !has(term.matchFields)"
    " && has(term.matchExpressions) && term.matchExpressions.size() == 1"
    f" && term.matchExpressions[0].key == '{HOSTNAME}' && term.matchExpressions[0].operator == 'In'"
    " && term.matchExpressions[0].values == [variables.node]))"
)
_OUR_CLASS = (
    "variables.volumes.all(one, has(one.spec.storageClassName)"
    f" && (one.spec.storageClassName == '{CLASS}' || one.spec.storageClassName.startsWith('{CLASS}-')))"
)
_OUR_KIND = (
    "variables.volumes.all(one, has(one.metadata.annotations)"
    f" && '{PROVISIONED_BY}' in one.metadata.annotations"
    f" && one.metadata.annotations['{PROVISIONED_BY}'] == '{PROVISIONER}'"
    f" && has(one.spec.local) && one.spec.local.path == '{PATH_PREFIX}' + one.metadata.name)"
)
_FOR_A_CLAIM = (
    "variables.volumes.all(one, has(one.spec.claimRef) && has(one.spec.claimRef.uid)"
    f" && one.metadata.name == '{NAME_PREFIX}' + one.spec.claimRef.uid)"
)
_UNCHANGED = "request.operation != 'UPDATE' || object.spec == oldObject.spec"


def allow_volumes(client: Client, node: str) -> None:
    """Whoever has joined before finds the same. Raises ApiError where this user may not, or the cluster is too old."""
    for made in (*_make_policy(), _make_class(), _make_role(), _make_role_binding(node)):
        client.apply(made, field_manager=MANAGER, force=True)


def disallow_volumes(client: Client, node: str) -> None:
    with suppress(ApiError):
        client.delete(ClusterRoleBinding, _name_binding(node))


def _make_class() -> StorageClass:
    """A volume is made where the first pod of its claim is to run, and only on nodes of ours."""
    here = TopologySelectorLabelRequirement(key="type", values=["virtual-kubelet"])
    return StorageClass(
        metadata=ObjectMeta(name=CLASS), provisioner=PROVISIONER, volumeBindingMode="WaitForFirstConsumer",
        reclaimPolicy="Delete", allowVolumeExpansion=False,
        allowedTopologies=[TopologySelectorTerm(matchLabelExpressions=[here])],
    )  # fmt: skip


def _make_role() -> ClusterRole:
    rules = [
        PolicyRule(
            apiGroups=[""], resources=["persistentvolumeclaims"], verbs=["get", "list", "watch"]
        ),
        PolicyRule(
            apiGroups=[""], resources=["persistentvolumes"],
            verbs=["get", "list", "watch", "create", "patch", "delete"],
        ),
        PolicyRule(apiGroups=["storage.k8s.io"], resources=["storageclasses"], verbs=["get"]),
    ]  # fmt: skip
    return ClusterRole(metadata=ObjectMeta(name=ROLE), rules=rules)


def _name_binding(node: str) -> str:
    return f"{ROLE}:{node}"


def _make_role_binding(node: str) -> ClusterRoleBinding:
    return ClusterRoleBinding(
        metadata=ObjectMeta(name=_name_binding(node)),
        roleRef=RoleRef(apiGroup="rbac.authorization.k8s.io", kind="ClusterRole", name=ROLE),
        subjects=[Subject(apiGroup="rbac.authorization.k8s.io", kind="User", name=f"{NODE_PREFIX}{node}")],
    )


def _make_policy() -> tuple[Any, Any]:
    """Before the role: what it gives is held from its first moment on."""
    rule = NamedRuleWithOperations(
        apiGroups=[""], apiVersions=["v1"], resources=["persistentvolumes"],
        operations=["CREATE", "UPDATE", "DELETE"],
    )  # fmt: skip
    volumes = (
        "request.operation == 'CREATE' ? [object]"
        " : request.operation == 'DELETE' ? [oldObject] : [object, oldObject]"
    )
    policy = ValidatingAdmissionPolicy(
        metadata=ObjectMeta(name=POLICY),
        spec=ValidatingAdmissionPolicySpec(
            failurePolicy="Fail", matchConstraints=MatchResources(resourceRules=[rule]),
            matchConditions=[
                MatchCondition(
                    name="nodes", expression=f"request.userInfo.username.startsWith('{NODE_PREFIX}')"
                )
            ],
            variables=[
                Variable(name="node", expression=f"request.userInfo.username.substring({len(NODE_PREFIX)})"),
                Variable(name="volumes", expression=volumes),
            ],
            validations=[
                Validation(expression=_ONLY_THIS_NODE, message="a node makes volumes that lie on itself"),
                Validation(expression=_OUR_CLASS, message="a node makes volumes of Volant's classes"),
                Validation(expression=_OUR_KIND, message="a node makes volumes of its daemon's"),
                Validation(expression=_FOR_A_CLAIM, message="a node makes volumes for claims"),
                Validation(expression=_UNCHANGED, message="a node changes no volume"),
            ],
        ),
    )  # fmt: skip
    binding = ValidatingAdmissionPolicyBinding(
        metadata=ObjectMeta(name=POLICY),
        spec=ValidatingAdmissionPolicyBindingSpec(policyName=POLICY, validationActions=["Deny"]),
    )
    return policy, binding
