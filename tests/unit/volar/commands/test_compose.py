# SPDX-License-Identifier: Apache-2.0
"""volar compose over the whole API in this process; its VMs are fakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.in_process_daemon import InProcessDaemon
from unit.volar.conftest import Done, Volar

if TYPE_CHECKING:
    from volant.contract.api_types import VmCreate, VolumeAttachment

STACK = """
name: shop
services:
  web:
    image: part
    restart: always
    ports: ["127.0.0.1::80"]
    depends_on: {db: {condition: service_healthy}}
    configs: [settings]
    privileged: true
  db:
    image: part
    restart: always
    volumes: [rows:/data]
    secrets: [key]
  tool: {image: part, profiles: [tools]}
configs: {settings: {content: "a=1"}}
secrets: {key: {file: ./key}}
volumes: {rows: {x-volant-size: 64M}}
"""
Compose = Callable[..., Done]


@pytest.fixture(scope="module", autouse=True)
def plugin(daemon: InProcessDaemon) -> None:
    daemon.install("part")


@pytest.fixture
def compose(volar: Volar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Compose]:
    (tmp_path / "compose.yaml").write_text(STACK)
    (tmp_path / "key").write_text("geheim")
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Done:
        return volar("compose", *arguments)

    yield call
    call("down", "-v")


def test_a_stack_comes_up_is_left_alone_and_goes(compose: Compose, daemon: InProcessDaemon) -> None:
    done = compose("up", "-d", "--wait")
    assert done.exit_code == 0, done.err
    assert "warning: services.web.privileged: left out" in done.err
    vms = {vm["name"]: vm for vm in daemon.client.list_vms()}
    assert set(vms) == {"shop-web-1", "shop-db-1"}
    assert vms["shop-web-1"]["labels"]["volant.compose.service"] == "web"
    assert vms["shop-db-1"]["secrets"] == ["compose.shop.key"]
    assert [volume["name"] for volume in vms["shop-db-1"]["volumes"]] == ["shop_rows"]
    assert [line.split()[:4] for line in compose("ps").out.splitlines()[1:]] == [
        ["shop-db-1", "db", "running", "healthy"], ["shop-web-1", "web", "running", "healthy"],
    ]  # fmt: skip
    again = compose("up", "-d")
    assert again.exit_code == 0, again.err
    assert {vm["name"]: vm["id"] for vm in daemon.client.list_vms()} == {
        name: vm["id"] for name, vm in vms.items()
    }
    assert "shop-web-1 | [web] hello" in compose("logs", "web").out
    gone = compose("down")
    assert gone.exit_code == 0, gone.err
    assert gone.err.index("shop-web-1: removed") < gone.err.index("shop-db-1: removed")
    assert daemon.client.list_vms() == []
    assert daemon.client.list_secrets() == []
    assert [volume["name"] for volume in daemon.client.list_volumes()] == ["shop_rows"], "data stays"
    assert compose("down", "-v").exit_code == 0
    assert daemon.client.list_volumes() == []


def test_only_what_differs_is_replaced(compose: Compose, daemon: InProcessDaemon, tmp_path: Path) -> None:
    assert compose("up", "-d").exit_code == 0
    before = {vm["name"]: vm["id"] for vm in daemon.client.list_vms()}
    (tmp_path / "compose.yaml").write_text(STACK.replace("a=1", "a=2"))
    assert compose("up", "-d").exit_code == 0
    after = {vm["name"]: vm["id"] for vm in daemon.client.list_vms()}
    assert after["shop-db-1"] == before["shop-db-1"]
    assert after["shop-web-1"] != before["shop-web-1"]
    (tmp_path / "key").write_text("another")
    assert compose("up", "-d").exit_code == 0
    assert {vm["name"]: vm["id"] for vm in daemon.client.list_vms()}["shop-db-1"] != before["shop-db-1"]


def test_what_is_missing_or_stopped_is_made_and_started(compose: Compose, daemon: InProcessDaemon) -> None:
    """What a kill in the middle of `up` leaves behind."""
    assert compose("up", "-d").exit_code == 0
    daemon.client.stop_vm("shop-db-1", force=True)
    daemon.client.delete_vm("shop-web-1", force=True)
    assert compose("up", "-d", "--wait").exit_code == 0
    assert {vm["name"]: vm["status"] for vm in daemon.client.list_vms()} == {
        "shop-web-1": "running", "shop-db-1": "running",
    }  # fmt: skip


def test_services_are_stopped_started_and_scaled(
    compose: Compose, daemon: InProcessDaemon, tmp_path: Path
) -> None:
    (tmp_path / "compose.yaml").write_text(
        "name: shop\nservices: {a: {image: part, scale: 2, restart: always}}"
    )
    assert compose("up", "-d").exit_code == 0
    assert compose("stop").exit_code == 0
    assert {vm["status"] for vm in daemon.client.list_vms()} == {"stopped"}
    assert compose("restart", "a").exit_code == 0
    assert {vm["name"]: vm["status"] != "stopped" for vm in daemon.client.list_vms()} == {
        "shop-a-1": True, "shop-a-2": True,
    }  # fmt: skip
    (tmp_path / "compose.yaml").write_text(
        "name: shop\nservices: {a: {image: part, scale: 1, restart: always}}"
    )
    assert compose("up", "-d").exit_code == 0
    assert [vm["name"] for vm in daemon.client.list_vms()] == ["shop-a-1"]
    (tmp_path / "compose.yaml").write_text("name: shop\nservices: {b: {image: part, restart: always}}")
    told = compose("up", "-d")
    assert "shop-a: of no service" in told.err
    assert compose("up", "-d", "--remove-orphans").exit_code == 0
    assert [vm["name"] for vm in daemon.client.list_vms()] == ["shop-b-1"]


def test_config_shows_the_file_and_asks_no_daemon_for_it(compose: Compose) -> None:
    shown = compose("config")
    assert shown.exit_code == 0
    assert "#   services.web.privileged: left out: a VM has its own kernel" in shown.out
    assert compose("config", "--services").out.split() == ["web", "db", "tool"]
    assert compose("config", "-q").out == ""


def test_what_cannot_be_made_is_told_before_anything_is_done(
    compose: Compose, daemon: InProcessDaemon, tmp_path: Path
) -> None:
    folder = "name: shop\nservices: {a: {image: part}, b: {image: part, volumes: ['./key/src:/app']}}"
    shared = "name: shop\nservices: {a: &a {image: part, volumes: ['v:/v']}, b: *a}\nvolumes: {v: }"
    for text, words in (
        (folder, "services.b.volumes[0]: cannot make"),
        (shared, "cannot share volume shop_v"),
    ):
        (tmp_path / "compose.yaml").write_text(text)
        done = compose("up", "-d")
        assert done.exit_code == 3, done.err
        assert words in done.err
    assert daemon.client.list_vms() == []
    assert compose("logs", "gone").exit_code == 4
    assert compose("exec", "a", "true").exit_code == 4
    assert compose("-f", "none.yaml", "ps").exit_code == 4
    (tmp_path / "compose.yaml").write_text(
        "name: shop\nservices: {a: {image: part}}\nvolumes: {v: {external: true}}"
    )
    assert compose("build", "a").exit_code == 2


def test_a_vm_of_somebody_else_is_not_touched(compose: Compose, daemon: InProcessDaemon) -> None:
    daemon.client.create_vm({"name": "shop-db-1", "plugin": "part"})
    done = compose("up", "-d")
    assert (done.exit_code, "not of this stack" in done.err) == (5, True), done.err
    daemon.client.delete_vm("shop-db-1", force=True)


def test_folders_of_this_host_are_mounted_by_a_daemon_of_this_host_only(
    compose: Compose, daemon: InProcessDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "compose.yaml").write_text(
        "name: shop\nservices: {a: {image: part, restart: always, volumes: ['./src:/app:ro']}}"
    )
    with monkeypatch.context() as patch:
        patch.setattr(daemon.client, "address", "http://10.0.0.1:7777")
        done = compose("up", "-d")
    assert done.exit_code == 3
    assert "folders of this host: the daemon is elsewhere" in done.err
    assert not (tmp_path / "src").exists()
    done = compose("up", "-d")
    assert done.exit_code == 0, done.err
    assert (tmp_path / "src").is_dir(), "as the specification says"
    assert daemon.client.get_vm("shop-a-1")["mounts"] == [
        {"source": str(tmp_path / "src"), "target": "/app", "read_only": True}
    ]


def test_networks_are_made_used_and_removed(
    compose: Compose, daemon: InProcessDaemon, tmp_path: Path
) -> None:
    (tmp_path / "compose.yaml").write_text("""
name: shop
services:
  web: {image: part, restart: always, networks: [default, outside]}
  db: {image: part, restart: always, networks: {back: {aliases: [store]}}}
networks: {back: {internal: true, labels: {tier: rows}}, outside: {external: true}}
""")
    done = compose("up", "-d")
    assert (done.exit_code, "external network outside" in done.err) == (4, True), done.err
    assert daemon.client.list_vms() == []
    daemon.client.create_network("outside")
    done = compose("up", "-d")
    assert done.exit_code == 0, done.err
    networks = {network["name"]: network for network in daemon.client.list_networks()}
    assert networks["shop_back"]["internal"]
    assert networks["shop_back"]["labels"] == {"tier": "rows", "volant.compose.project": "shop"}
    assert networks["shop_default"]["vms"] == networks["outside"]["vms"] == ["shop-web-1"]
    assert daemon.client.get_vm("shop-db-1")["aliases"] == ["db", "store"]
    assert compose("down").exit_code == 0
    assert {network["name"] for network in daemon.client.list_networks()} == {"default", "outside"}
    daemon.client.delete_network("outside")


DISKS = [{"name": "data", "target": "/var/lib/app", "size": "32M"}, {"name": "cache", "size": "32M"}]
KEEPING = "name: shop\nservices: {db: {image: keeps, restart: always}, web: {image: keeps, restart: always, scale: 2}}"


def test_disks_of_plugins_stay_at_down_and_go_with_v(
    compose: Compose, daemon: InProcessDaemon, tmp_path: Path
) -> None:
    def list_volumes() -> list[str]:
        return [volume["name"] for volume in daemon.client.list_volumes()]

    def get_id(name: str) -> str:
        return next(volume["id"] for volume in daemon.client.list_volumes() if volume["name"] == name)

    daemon.install("keeps", disks=DISKS)
    daemon.client.create_volume("shop-db-1-mine", "32M")
    (tmp_path / "compose.yaml").write_text(KEEPING)
    of_db = ["shop-db-1-cache", "shop-db-1-data"]
    of_web = [f"shop-web-{number}-{disk}" for number in (1, 2) for disk in ("cache", "data")]
    try:
        assert compose("up", "-d", "--wait").exit_code == 0
        assert list_volumes() == sorted(["shop-db-1-mine", *of_db, *of_web])
        first = get_id("shop-db-1-data")
        assert compose("up", "-d", "--force-recreate").exit_code == 0
        assert get_id("shop-db-1-data") == first, "a new VM has its data again"
        assert compose("down").exit_code == 0
        assert list_volumes() == sorted(["shop-db-1-mine", *of_db]), "those of replicas go with them"
        # What an earlier `down` has kept.
        done = compose("down", "-v")
        assert done.exit_code == 0, done.err
        assert "shop-db-1-data: volume deleted" in done.err
        assert list_volumes() == ["shop-db-1-mine"]
        assert compose("up", "-d").exit_code == 0
        assert compose("down", "-v").exit_code == 0
        assert list_volumes() == ["shop-db-1-mine"]
    finally:
        daemon.client.delete_volume("shop-db-1-mine")


def test_a_disk_that_another_vm_has_stays(compose: Compose, daemon: InProcessDaemon, tmp_path: Path) -> None:
    daemon.install("keeps", disks=DISKS)
    (tmp_path / "compose.yaml").write_text(KEEPING)
    assert compose("up", "-d", "db").exit_code == 0
    attached: VolumeAttachment = {"name": "shop-db-1-data", "target": "/data", "read_only": True}
    request: VmCreate = {"name": "reader", "plugin": "part", "start": False, "volumes": [attached]}
    daemon.client.create_vm(request)
    done = compose("down", "-v")
    assert done.exit_code == 0, done.err
    assert "warning: cannot delete volume shop-db-1-data" in done.err
    assert [volume["name"] for volume in daemon.client.list_volumes()] == ["shop-db-1-data"]
    daemon.client.delete_vm("reader", force=True)
    assert compose("down", "-v").exit_code == 0
    assert daemon.client.list_volumes() == []
