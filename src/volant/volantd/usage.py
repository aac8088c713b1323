# SPDX-License-Identifier: Apache-2.0
"""Who uses a resource: each store is told how to ask, and knows none of those who answer.

A volume, a snapshot or a deployment that comes later is one more that answers; what is used is removed by nobody.
"""

from __future__ import annotations

from collections.abc import Callable

# Names of the VMs that use the secret of this name, or the plugin of this name and version.
FindSecretUsers = Callable[[str], list[str]]
FindPluginUsers = Callable[[str, str], list[str]]
