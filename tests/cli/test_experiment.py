"""`onmodel experiment`: plan, run, status and report of a small experiment on the toon base."""

import json
from pathlib import Path

import pytest

from tests.support.command_line import onmodel
from tests.support.recipes import RECIPE

TABLES = """
[stages.references]
do = "curate"
subsets.reference = [{ toon = "reference", count = 6 }]
heldout_subsets = ["reference"]

[stages.measured]
do = "evaluate"
models = ["look"]
seeds = 1
steps = 4
batch = 16
references = { stage = "references", subset = "reference" }

[experiments.second]
base = "look"
twins = 0
list.fewer.count = 3
list.equal."train.rank" = 4
"""


def test_an_experiment_is_planned_run_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("two.toml").write_text(RECIPE + TABLES)
    planned = onmodel("experiment", "run", "two.toml", "second", "--dry-run")
    assert planned.returncode == 0 and "the same as look" in planned.stdout
    assert "3 pictures" in planned.stdout and not Path("two").exists()
    missing = onmodel("experiment", "report", "two.toml", "second")
    assert missing.returncode == 2 and "is not a project folder" in missing.stderr

    run = onmodel("experiment", "run", "two.toml", "second", "--json")
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["base"] == ["look"] and told["variants"]["equal"]["same_as"] == "look"
    assert {row["variant"] for row in told["effects"]} == {"fewer"}
    page = Path("two/report/experiment-look_second.html")
    assert "data:image/webp" in page.read_text() and page.with_suffix(".csv").exists()

    status = onmodel("experiment", "status", "two.toml", "second")
    assert "6 of 6 stages are made" in status.stdout
    report = onmodel("experiment", "report", "two.toml", "second")
    assert report.returncode == 0 and "fewer (3 pictures):" in report.stdout
    kept = onmodel("clean", "two", "two.toml", "--yes")
    assert kept.returncode == 0, kept.stderr
    again = onmodel("experiment", "status", "two.toml", "second")
    assert "6 of 6 stages are made" in again.stdout


def test_variants_are_stopped_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    more = TABLES.replace("list.equal", "stop_early = true\nlist.small").replace(
        "= 4\n", "= 2\n", -1
    )
    Path("two.toml").write_text(RECIPE + more)
    run = onmodel("experiment", "run", "two.toml", "second", "--json")
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    stopped = {row["variant"] for row in told["effects"] if row["stopped"]}
    assert len(stopped) == 1 and stopped < {"fewer", "small"}
    assert sum("(stopped after 6 prompts)." in line for line in told["sentences"]) == 1
    status = onmodel("experiment", "status", "two.toml", "second")
    assert "8 of 8 stages are made" in status.stdout
    page = Path("two/report/experiment-look_second.html").read_text()
    assert "stopped early" in page
