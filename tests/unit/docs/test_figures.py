# SPDX-License-Identifier: Apache-2.0
"""Figures of benches as table and plot. That the pages are what the results say is checked with the reference."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))
sys.path.insert(0, str(ROOT))

import figures  # noqa: E402  scripts are no package
from bench import results  # noqa: E402


def make_run(**values: float) -> dict[str, object]:
    return {"figures": values}


TARGETS = {
    "cost": figures.Target(2.0, False, 1.0, "less is better"),
    "speed": figures.Target(3.0, True, None, "more is better"),
    "never": figures.Target(1.0, False, None, "not measured"),
    "lost": figures.Target(0.0, False, None, "none is wanted"),
}


def test_the_best_of_the_runs_is_what_is_nearest_to_what_is_wanted() -> None:
    table = figures.make_table(TARGETS, [make_run(cost=1.5, speed=4), make_run(cost=2.5, speed=2)])
    assert "| `cost` | ≤ 2 | 2.5 | 1.5 of 2 | 1 | less is better |" in table
    assert "| `speed` | ≥ 3 | 2 | 4 of 2 |  | more is better |" in table
    assert "| `never` | ≤ 1 | not yet |  |  | not measured |" in table


def test_none_wanted_is_a_row_and_has_no_place_on_the_plot() -> None:
    runs = [make_run(lost=0, cost=-1.0), make_run(lost=3)]
    assert "| `lost` | ≤ 0 | 3 | 0 of 2 |  | none is wanted |" in figures.make_table(TARGETS, runs)
    assert "circle" not in figures.make_plot(TARGETS, runs)


def test_what_is_better_than_wanted_lies_below_the_line() -> None:
    tree = ElementTree.fromstring(figures.make_plot(TARGETS, [make_run(cost=1, speed=1.5)]))
    heights = [float(circle.attrib["cy"]) for circle in tree.iter("{http://www.w3.org/2000/svg}circle")]
    middle = figures.TOP + figures.HEIGHT / 2
    assert heights[0] > middle > heights[1]  # y grows downward


def test_readme_says_what_was_measured_last_and_needs_its_marks() -> None:
    begin, end = figures.README_BOUNDS
    filled = figures.fill_readme(f"# Volant\n{begin}| an older table |\n{end}the rest\n")
    assert filled.startswith(f"# Volant\n{begin}\n| measured | last | wanted |\n") and filled.endswith(
        f"{end}the rest\n"
    )
    runs = figures.read_runs("cli")
    last = next(run for run in reversed(runs) if "start-volar-vs-podman" in run["figures"])
    assert f"| {last['figures']['start-volar-vs-podman']:g} | ≤ 1 |" in filled
    with pytest.raises(SystemExit):
        figures.fill_readme("# Volant\n")


def test_growth_is_a_row_and_a_bar_for_each_image_of_the_run() -> None:
    columns = {
        "files": 6900,
        "content_mib": 156,
        "layers": 1,
        "seconds": 1.5,
        "peak_mib": 50,
        "plugin_mb": 69,
    }
    run = {
        "figures": {
            f"{image}.{name}": value for image in ("base-1", "base-8") for name, value in columns.items()
        }
    }
    run["figures"]["base-8.seconds"] = 3.0
    assert "| Debian minbase | 6,900 | 156 | 1 | 1.5 | 50 | 69 |" in figures.make_growth_table(run)
    assert "small files" not in figures.make_growth_table(run)
    tree = ElementTree.fromstring(figures.make_growth_plot(run))
    first, second = (float(bar.attrib["width"]) for bar in tree.iter("{http://www.w3.org/2000/svg}rect"))
    assert second == 2 * first


def test_a_run_is_one_line_with_its_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results.ratio("cost-of-it", 1.234)
    results.ratio("start-ms", 41.7, 0)
    assert capsys.readouterr().out == "RATIO cost-of-it 1.23\nRATIO start-ms 42\n"
    results.save("it", tmp_path)
    results.save("it", tmp_path)  # nothing was told since
    (line,) = (tmp_path / "it.jsonl").read_text().splitlines()
    run = json.loads(line)
    assert run["figures"] == {"cost-of-it": 1.23, "start-ms": 42}
    assert run["machine"]["cores"] >= 1 and run["commit"]
    figures.describe(run)
