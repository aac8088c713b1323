# SPDX-License-Identifier: Apache-2.0
"""Labels of VMs: people's own, but for the one that says whose VM it is, which only its deployment gives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from volant.errors import InvalidInput

DEPLOYMENT_LABEL = "volant.deployment"


def check_labels(names: Iterable[str]) -> None:
    """Refuse what nobody may say of a VM."""
    if DEPLOYMENT_LABEL in names:
        raise InvalidInput(
            f"cannot change label {DEPLOYMENT_LABEL}: a deployment's own VMs have it, and no others",
            resolution="choose another name for the label",
        )


def merge_labels(usual: Mapping[str, str], asked: Mapping[str, str], deployment: str) -> dict[str, str]:
    """`usual` are those of the plugin, or of the VM that this one is a copy of: whose that was does not count.
    InvalidInput where somebody asks for what only a deployment gives."""
    check_labels(asked)
    own = {DEPLOYMENT_LABEL: deployment} if deployment else {}
    return {**{name: value for name, value in usual.items() if name != DEPLOYMENT_LABEL}, **asked, **own}
