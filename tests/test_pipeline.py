"""The whole life on the toon base, through the command line as a user types it."""

import hashlib
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from onmodel.engine.project import Project
from onmodel.errors import OnmodelError
from onmodel.families.registry import load_base
from onmodel.hashing import read_json, tree_hash
from onmodel.lora.tensors import applied, read_lora
from onmodel.release.verify import verify
from onmodel.sample.sampler import Job, noise, sample
from onmodel.sample.sampling import Sampling
from onmodel.toon.base import TOON_BASE
from tests.support.command_line import onmodel
from tests.support.diffusers_anima import diffusers_pipeline

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "tests" / "tiny_recipe.toml"
ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}


def released_weights(project: Path, name: str = "tiny") -> str:
    return hashlib.sha256(
        (project / "release" / name / f"{name}.safetensors").read_bytes()
    ).hexdigest()


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "project"
    run = onmodel("run", RECIPE, "--project", folder)
    assert run.returncode == 0, run.stderr
    return folder


def test_a_run_leaves_summary_report_and_release(project: Path) -> None:
    summary = json.loads((project / "summary.json").read_text())
    assert summary["final"] == "refined@2"
    assert (project / summary["release"] / "README.md").exists()
    names = {model["name"]: model for model in summary["models"]}
    assert {"first@4", "merged", "refined@2"} <= set(names)
    for axis in names["refined@2"]["axes"].values():
        assert axis["value"] is None or axis["low"] <= axis["value"] <= axis["high"]
    assert "<title>" in (project / "report" / "index.html").read_text()
    assert not list((project / "scratch").iterdir())


def test_a_second_run_does_nothing_again_and_writes_the_same(project: Path) -> None:
    before = released_weights(project), (project / "report" / "index.html").read_bytes()
    run = onmodel("run", RECIPE, "--project", project)
    assert run.returncode == 0, run.stderr
    assert run.stderr.rstrip().endswith("when nothing is done yet"), (
        "nothing but the plan is said, for nothing was done"
    )
    assert (released_weights(project), (project / "report" / "index.html").read_bytes()) == before


def test_the_report_is_written_again_from_what_is_done(project: Path, tmp_path: Path) -> None:
    pages = {file.name: file.read_bytes() for file in (project / "report").iterdir()}
    assert {"index.html", "evaluation-candidates.html", "evaluation-candidates-scores.csv"} <= set(
        pages
    )
    shutil.rmtree(project / "report")
    run = onmodel("report", RECIPE, "--project", project, "--json")
    assert run.returncode == 0, run.stderr
    assert {file.name: file.read_bytes() for file in (project / "report").iterdir()} == pages
    assert json.loads(run.stdout) == json.loads((project / "summary.json").read_text())
    run = onmodel("report", RECIPE, "--project", tmp_path)
    assert (
        run.returncode == 2
        and "not a project folder" in run.stderr
        and not list(tmp_path.iterdir())
    )


def test_the_report_is_written_while_a_run_holds_the_project(project: Path) -> None:
    before = (project / "report" / "index.html").read_bytes()
    with Project(project).writing():
        run = onmodel("report", RECIPE, "--project", project)
        assert run.returncode == 0, run.stderr
        run = onmodel("run", RECIPE, "--project", project)
        assert run.returncode == 1 and f"is being written by process {os.getpid()}" in run.stderr
    assert (project / "report" / "index.html").read_bytes() == before


def test_a_data_set_whose_picture_was_changed_stops_the_run_until_it_is_made_again(
    project: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(project, tmp_path / "p")
    data = next(
        path
        for path in folder.glob("objects/*/*/manifest.json")
        if list(read_json(path)["subsets"]) == ["base"]
    )
    picture = sorted(data.parent.glob("images/*.png"))[0]
    picture.write_bytes(picture.read_bytes()[:-1] + b"x")
    for command in ("run", "report"):
        run = onmodel(command, RECIPE, "--project", folder)
        assert run.returncode == 1 and "Traceback" not in run.stderr
        assert f"{picture}: was changed since it was made" in run.stderr.replace("\n", "")
    assert onmodel("doctor", folder).returncode == 1
    run = onmodel("doctor", folder, "--fix")
    assert run.returncode == 0 and "moved to" in run.stdout, run.stdout
    run = onmodel("run", RECIPE, "--project", folder)
    assert run.returncode == 0 and run.stderr.count("(made before; its object is gone)") == 1, (
        run.stderr
    )
    assert tree_hash(data.parent) == data.parent.name and released_weights(
        folder
    ) == released_weights(project)


def test_what_is_not_done_is_left_out_of_the_report(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project, tmp_path / "partly")
    with sqlite3.connect(tmp_path / "partly" / "onmodel.db") as ledger:
        ledger.execute("DELETE FROM runs WHERE stage IN ('refined', 'release')")
    shutil.rmtree(tmp_path / "partly" / "report")
    run = onmodel("report", RECIPE, "--project", tmp_path / "partly")
    assert run.returncode == 0, run.stderr
    assert "left out: refined, confirmed, release" in run.stderr
    pages = {file.name for file in (tmp_path / "partly" / "report").glob("*.html")}
    assert pages == {"index.html", "evaluation-candidates.html"}
    with sqlite3.connect(tmp_path / "partly" / "onmodel.db") as ledger:
        ledger.execute("DELETE FROM runs")
    run = onmodel("report", RECIPE, "--project", tmp_path / "partly")
    assert run.returncode == 2 and "has nothing of" in run.stderr


def test_the_release_stage_alone_says_where_the_release_lies(project: Path) -> None:
    run = onmodel("release", "build", RECIPE, "--project", project)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == str(project / "release" / "tiny")
    assert onmodel("release", "check", project / "release" / "tiny").stdout.endswith(
        "nothing found\n"
    )
    run = onmodel("release", RECIPE)
    assert run.returncode == 2 and "No such command" in run.stderr


def test_a_release_whose_licence_is_wrong_stops_at_the_plan(tmp_path: Path) -> None:
    sheet = (ROOT / "onmodel" / "toon" / "characters" / "backgwa.toml").read_text()
    (tmp_path / "sheet.toml").write_text(sheet.replace("MIT (toon world)", "CC-BY"))
    (tmp_path / "r.toml").write_text(RECIPE.read_text().replace("toon:backgwa", "sheet.toml"))
    run = onmodel("run", tmp_path / "r.toml", "--project", tmp_path / "p")
    assert (
        run.returncode == 2
        and "character.license: CC-BY" in run.stderr
        and not (tmp_path / "p").exists()
    )


def test_the_release_verifies_and_one_changed_byte_is_named(project: Path, tmp_path: Path) -> None:
    release = shutil.copytree(project / "release" / "tiny", tmp_path / "tiny")
    assert onmodel("release", "verify", release).returncode == 0
    rng = random.Random(1)
    for path in sorted(path for path in release.rglob("*") if path.is_file()):
        good = path.read_bytes()
        place = rng.randrange(len(good))
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(OnmodelError):
            verify(release)
        path.write_bytes(good)
    weights = release / "tiny.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    run = onmodel("release", "verify", release)
    assert (
        run.returncode == 1 and "tiny.safetensors" in run.stderr and "Traceback" not in run.stderr
    )


def test_a_release_alone_tells_its_history_and_a_picture_of_it_is_proven(
    project: Path, tmp_path: Path
) -> None:
    """The folder is all there is; only the proof is made where the pictures are."""
    release = shutil.copytree(project / "release" / "tiny", tmp_path / "elsewhere")
    run = onmodel("release", "lineage", release, "--json")
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert (
        told["counts"]["trainings"] == 2
        and told["counts"]["data_sets"] == 3
        and told["counts"]["merges"] == 1
    )
    verbs = {node["settings"]["do"] for node in told["nodes"].values() if "settings" in node}
    assert verbs == {"curate", "train", "sample", "evaluate", "select", "merge", "release"}
    run = onmodel(
        "release",
        "lineage",
        release,
        "--export",
        "in-toto",
        tmp_path / "statement.json",
        "--svg",
        tmp_path / "l.svg",
    )
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "statement.json").read_bytes() == (release / "lineage.json").read_bytes()
    data = next(
        path
        for path in project.glob("objects/*/*/manifest.json")
        if list(read_json(path)["subsets"]) == ["base"]
    )
    picture = sorted(data.parent.glob("images/*.png"))[0]
    run = onmodel(
        "release", "prove", picture, release, "--project", project, "--out", tmp_path / "proof.json"
    )
    assert run.returncode == 0, run.stderr
    run = onmodel(
        "release", "verify", release, "--proof", tmp_path / "proof.json", "--picture", picture
    )
    assert run.returncode == 0 and "was " in run.stdout, run.stderr
    run = onmodel("release", "lineage", tmp_path / "nothing")
    assert run.returncode == 2 and run.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_release_is_rebuilt_from_itself_to_the_same_bytes(project: Path, tmp_path: Path) -> None:
    run = onmodel(
        "release", "rebuild", project / "release" / "tiny", "--out", tmp_path / "again", "--json"
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["differs"] is None and found["left_out"] == {} and found["ground"] == []
    assert len(found["same"]) == 11 and set(found["same"].values()) == {"the same bytes"}


def test_diffusers_draws_the_same_with_the_released_file(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = project / "release" / "tiny" / "tiny.safetensors"
    job = Job("1girl, backgwa, smile, upper body", "worst quality", 5, 96, 96)
    family = load_base("toon")
    bare = sample(family, [job], Sampling(steps=4))
    with applied(family, read_lora(file, family.spec), 1.0):
        ours = sample(family, [job], Sampling(steps=4))
    pipeline = diffusers_pipeline(TOON_BASE, monkeypatch)
    pipeline.load_lora_weights(str(file))
    state = pipeline(
        prompt=job.prompt,
        negative_prompt=job.negative,
        height=96,
        width=96,
        num_inference_steps=4,
        latents=noise(family, job).unsqueeze(2),
        output_type="np",
    )
    theirs = state.get("latents").squeeze(2)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    assert (ours - bare).abs().max() > 0.05


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    run = onmodel("run", RECIPE, "--project", tmp_path / "p", "--dry-run", "--json")
    assert run.returncode == 0, run.stderr
    stages = {row["stage"]: row for row in json.loads(run.stdout)["stages"]}
    assert stages["first"]["exposures"] == {"base": 8}
    assert stages["candidates"]["pictures"] == 12 * (3 + 2 * 2)
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("epochs = 4", "epohcs = 4", "stages.first.epohcs: 4 — unknown; did you mean 'epochs'?"),
        ("epochs = 4", 'epochs = "four"', "stages.first.epochs: four"),
        ('dataset = "data"', 'dataset = "dada"', "stages.first.dataset: dada — no such stage"),
        (
            'models = ["first@*"]',
            'models = ["refined"]',
            "stages.candidates.models: refined — stands later in the recipe",
        ),
        ('character = "toon:backgwa"', 'character = "me.toml"', "me.toml — no such file"),
        (
            "[recipe]",
            '[recipe]\nbase = { family = "anima", folder = "nowhere" }',
            "character.license: MIT (toon world)",
        ),
    ],
)
def test_what_a_newcomer_gets_wrong_ends_in_one_line_before_anything_is_written(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text(RECIPE.read_text().replace(old, new, 1))
    run = onmodel("run", recipe, "--project", tmp_path / "p")
    last = run.stderr.strip().splitlines()[-1]
    assert run.returncode == 2 and last.startswith("onmodel: ") and says in last, run.stderr
    assert not (tmp_path / "p" / "objects").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "name"), [(RECIPE, "tiny"), (ROOT / "recipes" / "demo.toml", "backgwa-demo")]
)
def test_ten_kills_at_random_moments_change_nothing(
    recipe: Path, name: str, tmp_path: Path
) -> None:
    whole = onmodel("run", recipe, "--project", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    rng, folder, said, kills = random.Random(7), tmp_path / "killed", tmp_path / "said.txt", 0
    while True:
        command = [
            sys.executable,
            "-m",
            "onmodel.cli.main",
            "run",
            str(recipe),
            "--project",
            str(folder),
        ]
        with said.open("wb") as file:
            process = subprocess.Popen(
                command, stderr=file, stdout=subprocess.DEVNULL, env=ENVIRONMENT
            )
        try:
            assert process.wait(timeout=rng.uniform(5, 20) if kills < 10 else None) == 0, (
                said.read_text()
            )
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
            time.sleep(0.2)
    assert kills >= 3
    assert released_weights(folder, name) == released_weights(tmp_path / "whole", name)


def test_status_lists_every_run_newest_first(project: Path, tmp_path: Path) -> None:
    runs = json.loads(onmodel("status", project, "--json").stdout)
    assert [runs[0]["stage"], runs[-1]["stage"]] == ["release", "references"]
    assert {run["state"] for run in runs} == {"done"} and all(run["finished"] for run in runs)
    assert "refined" in onmodel("status", project).stdout
    wrong = onmodel("status", tmp_path)
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1
