# SPDX-License-Identifier: Apache-2.0
"""How this code base is built, as far as a program can tell. Exceptions are named here, and go when they are none."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "volant"
TESTS = ROOT / "tests"
MOST_MODULE_LINES = 450
MOST_FUNCTION_LINES = 60

# Modules whose behaviour tests of another name show; each deserves one of its own.
WITHOUT_TEST_OF_THEIR_NAME = frozenset(
    [
        "contract/agent",
        "contract/agents",
        "contract/api",
        "contract/api_types",
        "contract/system_api",
        "contract/networks_api",
        "contract/volumes_api",
        "contract/volume_sizes",
        "contract/deployments_api",
        "contract/daemon_process",
        "contract/guest_config",
        "contract/image_config",
        "contract/payload_files",
        "cpio",
        "filesystems/blocks",
        "filesystems/empty",
        "filesystems/ext4/checksums",
        "filesystems/ext4/content",
        "filesystems/ext4/directories",
        "filesystems/ext4/directory_hash",
        "filesystems/ext4/extents",
        "filesystems/ext4/inodes",
        "filesystems/ext4/journal",
        "filesystems/ext4/layout",
        "filesystems/ext4/numbering",
        "filesystems/ext4/superblock",
        "filesystems/ext4/xattrs",
        "fledge/builders/base",
        "fledge/cache_key",
        "fledge/clusters",
        "fledge/epoch",
        "fledge/plugin_manifest",
        "fledge/problems",
        "fledge/raw",
        "signatures/media_types",
        "tar_headers",
        "volantd/api/application",
        "volantd/api/guest_files",
        "volantd/api/replies",
        "volantd/api/uploads",
        "volantd/api/vm_view",
        "volantd/backup/kept",
        "volantd/backup/routes",
        "volantd/backup/taking",
        "volantd/api/mount_rights",
        "volantd/folders/operations",
        "volantd/folders/server",
        "volantd/folders/serving",
        "volantd/folders/tree",
        "volantd/folders/watches",
        "volantd/folders/wire",
        "volantd/vms/targets",
        "volantd/host_state",
        "volantd/hypervisors/base",
        "volantd/hypervisors/confine",
        "volantd/hypervisors/qemu_disks",
        "volantd/import_command",
        "volantd/lost_and_found",
        "volantd/network/types",
        "volantd/notify",
        "volantd/plugins/resource",
        "volantd/plugins/routes",
        "volantd/resource",
        "volantd/secrets/resource",
        "volantd/secrets/routes",
        "volantd/service",
        "volantd/snapshots/record",
        "volantd/snapshots/resource",
        "volantd/snapshots/routes",
        "volantd/tokens/resource",
        "volantd/tokens/routes",
        "volantd/snapshots/taking",
        "volantd/templates/resource",
        "volantd/templates/routes",
        "volantd/volumes/resource",
        "volantd/volumes/routes",
        "volantd/vms/adoption",
        "volantd/vms/background",
        "volantd/vms/comeback",
        "volantd/vms/definition",
        "volantd/vms/disks",
        "volantd/vms/domain",
        "volantd/vms/fleet",
        "volantd/vms/keys",
        "volantd/vms/lifecycle",
        "volantd/vms/record",
        "volantd/vms/resource",
        "volantd/vms/recovery",
        "volantd/vms/running_vm",
        "volantd/networks/resource",
        "volantd/networks/routes",
        "volantd/vms/stopping",
        "volantd/vms/vm_file",
        "volar/compose/files",
        "volar/compose/foreground",
        "volar/compose/project_vms",
        "volar/compose/stack_commands",
        "volantd/deployments/balancing",
        "volantd/network/carrier/program",
        "volantd/deployments/record",
        "volantd/deployments/replica",
        "volantd/deployments/resource",
        "volantd/deployments/routes",
        "volantd/deployments/view",
        "volar/deployment_options",
        "volar/deployment_watch",
        "plugin_sources/transfer",
        "volar/commands/completion",
        "volar/commands/host",
        "volar/commands/ssh_config",
        "volar/commands/system_backup",
        "volar/commands/vms_logs",
        "plugin_sources/upload",
        "volar/ssh",
        "volar/ssh_proxy",
        "volar/terminal",
    ]
)
LONG_MODULES = frozenset(
    [
        "contract/api_types",  # generated
        "fledge/layers",
    ]
)
LONG_FUNCTIONS = frozenset(
    [
        "fledge/layers:apply",
        "fledge/tar:read_entries",
    ]
)


def list_modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(SOURCE.rglob("*.py")):
        if path.name not in ("__init__.py", "__main__.py"):
            yield path.relative_to(SOURCE).with_suffix("").as_posix(), path


def list_functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function's name and the lines of its code, its docstring left out."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            documented = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
            yield node.name, (node.end_lineno or 0) - node.lineno + 1 - documented


def test_modules_have_a_test_of_their_name() -> None:
    tested = {path.stem.removeprefix("test_") for path in TESTS.rglob("test_*.py")}
    missing = {name for name, _ in list_modules() if name.rpartition("/")[2] not in tested}
    assert missing - WITHOUT_TEST_OF_THEIR_NAME == set(), "write tests/unit/…/test_NAME.py"


def test_modules_are_short() -> None:
    long = {name for name, path in list_modules() if len(path.read_text().splitlines()) > MOST_MODULE_LINES}
    assert long - LONG_MODULES == set()


def test_functions_are_short() -> None:
    long = {
        f"{name}:{function}"
        for name, path in list_modules()
        for function, lines in list_functions(path)
        # A function that only holds handlers is a table of them.
        if lines > MOST_FUNCTION_LINES and function not in ("make_router", "make_root_router")
    }
    assert long - LONG_FUNCTIONS == set()


def test_what_tests_share_lies_in_one_place() -> None:
    assert [path.name for path in TESTS.glob("*.py")] == ["conftest.py"], "helpers go to tests/support"


@pytest.mark.parametrize("path", sorted(TESTS.rglob("test_*.py")), ids=lambda path: path.stem)
def test_no_test_imports_another(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            assert not name.rpartition(".")[2].startswith("test_"), (
                f"what {name} shares belongs in tests/support"
            )


def test_every_variable_is_documented() -> None:
    """What people may set is told in docs/reference."""
    told = " ".join(
        path.read_text() for path in (ROOT / "docs").rglob("*.md") if "decisions" not in path.parts
    )
    used = {
        name
        for _, path in list_modules()
        for name in re.findall(r"\bVOLANT_[A-Z][A-Z_]*[A-Z]\b", path.read_text())
    }
    settings = ast.parse((SOURCE / "volantd" / "settings.py").read_text())
    for node in ast.walk(settings):
        if isinstance(node, ast.ClassDef) and node.name == "Settings":
            fields = [
                item.target.id
                for item in node.body
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
            ]
            used |= {
                f"VOLANT_{field.upper()}" for field in fields if field not in ("state_dir", "runtime_dir")
            }
    assert {name for name in used if f"`{name}" not in told} == set()


def test_no_pattern_takes_a_name_that_ends_in_a_newline() -> None:
    """`$` matches before a final newline in Python: patterns are matched whole instead (or end in \\Z)."""
    for name, path in list_modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            pattern = node.args[0]
            is_named = isinstance(pattern, ast.Name) and pattern.id.endswith("_PATTERN")
            ends = isinstance(pattern, ast.Constant) and str(pattern.value).endswith("$")
            if node.func.attr in ("match", "search") and (is_named or ends):
                lines = "MULTILINE" in ast.unparse(node)
                assert lines, f"{name}:{node.lineno}: use fullmatch"
