# SPDX-License-Identifier: Apache-2.0
"""What a kind of resource is to the daemon: a package, whose `resource.py` says the following, and a line in
`resources.py`. Nothing else of the daemon knows which kinds there are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volant.volantd.api.router import Router
from volant.volantd.usage import FindUsers

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily

    from volant.volantd.backup.kept import Keeping, Restored
    from volant.volantd.vms.domain import Domain
    from volant.volantd.vms.fleet import Fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """`name` is that of the package, of the routes and of volar's commands ("vms"); `noun` what people call one ("VM").

    `migrations` are SQL scripts for tables of its own, one a version, never edited once released. `sweep` finishes or
    undoes at the daemon's start what was cut off; `tend` runs beside the API until it is cancelled; `measure` is
    asked when somebody looks at the daemon's measures. Of a backup: `places` are its names at the top of the state
    folder, `keep` gives its files by their names below that, and `settle` makes what was unpacked right for this host
    (blocking).
    """

    name: str
    noun: str
    migrations: tuple[str, ...] = ()
    make_routers: Callable[[Fleet], Sequence[Router]] = lambda _fleet: ()
    sweep: Callable[[Fleet], Coroutine[Any, Any, None]] | None = None
    tend: Callable[[Fleet], Coroutine[Any, Any, None]] | None = None
    find_users: Callable[[Domain], FindUsers] | None = None
    measure: Callable[[Domain], Iterator[GaugeMetricFamily]] | None = None
    places: tuple[str, ...] = ()
    keep: Callable[[Fleet, Keeping], AsyncIterator[tuple[str, Path]]] | None = None
    settle: Callable[[Restored], None] | None = None
