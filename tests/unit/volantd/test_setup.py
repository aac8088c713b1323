# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest

from volant.errors import UsageError
from volant.volantd import service, setup
from volant.volantd.settings import Settings


def make_settings(folder: Path) -> Settings:
    return Settings(state_dir=folder / "state", runtime_dir=folder / "run")


@pytest.fixture(autouse=True)
def units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "units"
    folder.mkdir()
    monkeypatch.setattr(service, "find_service", lambda: service.Service(True, folder))
    return folder


def test_a_dry_run_changes_nothing(tmp_path: Path, units: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup.setup_all(make_settings(tmp_path), dry_run=True)
    output = capsys.readouterr().out
    for word in ("apt-get download", "ip link add volant0", "masquerade", "systemctl enable volantd.service"):
        assert word in output
    setup.remove_all(make_settings(tmp_path), dry_run=True)
    assert list(tmp_path.iterdir()) == [units] and not list(units.iterdir())


def test_no_unit_names_a_program_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = tmp_path / "volant"
    program = checkout / ".cache" / "demo" / "venv" / "bin" / "volantd"
    program.parent.mkdir(parents=True)
    program.touch()
    (checkout / "hatch_build.py").touch()
    monkeypatch.setattr("sys.argv", [str(program)])
    monkeypatch.setattr(service, "SYSTEMD", tmp_path)
    with pytest.raises(UsageError, match="lies in a checkout") as refused:
        service.setup_service(make_settings(tmp_path), dry_run=False)
    assert "make install" in refused.value.resolution
    assert not list((tmp_path / "units").iterdir())


def test_a_unit_is_for_the_usual_state_folder_only(tmp_path: Path) -> None:
    program = tmp_path / "volantd"
    program.touch()
    with pytest.raises(UsageError, match="usual place"):
        service.check_program(program, make_settings(tmp_path), system=False)


def test_root_s_unit_names_nothing_that_others_may_change(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "volantd"
    program.parent.mkdir()
    program.touch()
    program.parent.chmod(0o777)
    assert service.find_foreign_place(program) in (program, program.parent)  # the first where nobody is root


def test_removing_leaves_the_data(
    tmp_path: Path, units: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SYSTEMD", tmp_path / "absent")
    monkeypatch.setattr(setup, "is_bridge_installed", lambda: False)
    settings = make_settings(tmp_path)
    for folder in (settings.cache_dir / "kernels" / "amd64-6.1", settings.vms_dir / "one"):
        folder.mkdir(parents=True)
    for name in ("volantd.service", "volant-shutdown.service", "other.service"):
        (units / name).touch()
    setup.remove_all(settings, dry_run=False)
    assert [path.name for path in units.iterdir()] == ["other.service"]
    assert not (settings.cache_dir / "kernels").exists()
    assert (settings.vms_dir / "one").is_dir()
    assert str(settings.state_dir) in capsys.readouterr().out
