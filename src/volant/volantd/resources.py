# SPDX-License-Identifier: Apache-2.0
"""The list of all kinds of resources, in the order in which their leftovers are swept at start."""

from __future__ import annotations

from volant.volantd.deployments.resource import DEPLOYMENTS
from volant.volantd.networks.resource import NETWORKS
from volant.volantd.plugins.resource import PLUGINS
from volant.volantd.resource import Resource
from volant.volantd.secrets.resource import SECRETS
from volant.volantd.snapshots.resource import SNAPSHOTS
from volant.volantd.templates.resource import TEMPLATES
from volant.volantd.tokens.resource import TOKENS
from volant.volantd.vms.resource import VMS
from volant.volantd.volumes.resource import VOLUMES

RESOURCES: tuple[Resource, ...] = (
    PLUGINS, SECRETS, VOLUMES, NETWORKS, VMS, SNAPSHOTS, TEMPLATES, DEPLOYMENTS, TOKENS
)  # fmt: skip
