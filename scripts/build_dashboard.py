# SPDX-License-Identifier: Apache-2.0
"""The dashboard, as the wheel's build hook builds it.

build_dashboard.py            build it into src/volant/volantd/dashboard/built
build_dashboard.py --types    check its types instead, with everything that development wants in dashboard/node_modules
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from hatch_build import build_dashboard, fetch_node_packages, run_node  # noqa: E402  it lies where hatchling wants it

if __name__ == "__main__":
    dashboard = ROOT / "dashboard"
    if "--types" in sys.argv[1:]:
        installed = dashboard / "node_modules" / ".package-lock.json"
        lock = dashboard / "package-lock.json"
        if not installed.is_file() or installed.stat().st_mtime < lock.stat().st_mtime:
            fetch_node_packages(dashboard, for_development=True)
        run_node(dashboard, "node_modules/typescript/bin/tsc", "--noEmit")
    else:
        build_dashboard(ROOT)
