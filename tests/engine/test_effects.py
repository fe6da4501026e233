"""What counts as an effect of a change, and the page that shows it."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from onmodel.cli.tables import print_experiment
from onmodel.engine.effects import Effect, effects
from onmodel.engine.experiments import Experiment, influence_of
from onmodel.evaluate.axes import AXES
from onmodel.evaluate.evaluation import Evaluation
from onmodel.hashing import write_json
from onmodel.randomness import generator
from onmodel.recipe import load_recipe
from onmodel.report.experiment import (
    ABSENT,
    COLUMNS,
    as_dict,
    effect_rows,
    experiment_table,
    next_step,
    pictures_of,
    write_page,
)
from onmodel.report.numbers import write_rows
from tests.support import evaluations as made_up
from tests.support.html_reader import Reader

RECIPE = Path(__file__).parents[2] / "recipes" / "release_2.toml"
WITHOUT = "release_2_without_backgwa_additional"


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return influence_of(load_recipe(RECIPE), "release_2", None, twins=2, seeds=1)


def evaluation(
    experiment: Experiment, moved: dict[str, float], noise: float, axis: str = "colour_cast"
) -> Evaluation:
    """Casts: 6 everywhere but for what a variant moves, with noise that a training shares."""
    models = []
    for name in experiment.cells:
        rng = generator(len(models), "cast")
        values = 6 + moved.get(name, 0.0) + noise * rng.normal() + 0.3 * rng.normal(size=24)
        per_prompt = {f"p{i}": float(v) for i, v in enumerate(values)}
        models.append(made_up.model(f"{name}@40", {axis: per_prompt}))
    return made_up.evaluation(models)


def outcomes(found: list[Effect]) -> dict[str, str]:
    return {one.variant.removeprefix("without_"): one.comparison.outcome for one in found}


def test_a_subset_that_makes_the_yellow_is_found(experiment: Experiment, tmp_path: Path) -> None:
    measured = evaluation(experiment, {WITHOUT: -5.5}, noise=0.1)
    found = effects(measured, experiment)
    assert outcomes(found)["backgwa_additional"] == "better"
    assert "better" not in [o for name, o in outcomes(found).items() if name[-4:] != "onal"]
    better = next(one for one in found if one.comparison.outcome == "better")
    assert better.comparison.gain == pytest.approx(5.5, abs=0.4)
    assert better.floor < better.comparison.gain
    table = experiment_table(found, measured, experiment)
    assert table.sentences[2].startswith("Without backgwa_additional: better colour cast +5.")
    page = tmp_path / "experiment.html"
    write_page(table, experiment, measured, pictures_of([(measured, tmp_path)]), page)
    reader = Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    text = " ".join(reader.text)
    assert reader.open == [] and "Without backgwa_additional: better colour cast" in text
    write_rows(tmp_path / "rows.csv", COLUMNS, effect_rows(found, experiment))
    rows = list(csv.DictReader((tmp_path / "rows.csv").open()))
    assert [row["variant"] for row in rows] == [one.variant for one in found]
    write_json(tmp_path / "told.json", as_dict(found, measured, experiment))
    assert len(json.loads((tmp_path / "told.json").read_text())["effects"]) == 4


def test_a_variant_without_an_axis_leaves_the_others_in_their_columns(
    experiment: Experiment, tmp_path: Path
) -> None:
    measured = evaluation(experiment, {WITHOUT: -5.5}, noise=0.1)
    lacking = experiment.compared[0].stages[0]
    models = [
        made_up.model(row.name, {}, {"colour_cast": "no picture"})
        if row.name == f"{lacking}@40"
        else row
        for row in measured.models
    ]
    measured = replace(measured, models=models)
    table = experiment_table(effects(measured, experiment), measured, experiment)
    pictures = pictures_of([(measured, tmp_path)])
    write_page(table, experiment, measured, pictures, tmp_path / "page.html")
    cells = re.findall(r'<td class="(better|unavailable)"', (tmp_path / "page.html").read_text())
    assert cells == ["unavailable", "better"]
    output = io.StringIO()
    print_experiment(table, Console(file=output))
    row = next(line for line in output.getvalue().splitlines() if "│colour cast" in line)
    columns = [column.strip() for column in row.split("│")]
    assert columns[3] == ABSENT and columns[5].startswith("+5.")


def test_what_twins_do_too_is_no_effect(experiment: Experiment) -> None:
    found = effects(evaluation(experiment, {}, noise=3.0), experiment)
    surely = [one for one in found if one.comparison.p < 0.05]  # as the prompts alone would say
    called = [one for one in found if one.comparison.called]
    assert len(called) < len(surely)
    assert next_step(found).endswith("within the floor of 3.5: no larger than the axis' margin.")
    apart = [replace(one, floor=9.0) for one in found]  # twins lie apart by more than the margin
    assert next_step(apart).endswith("9.0: no larger than what another training changes.")


def test_an_axis_that_was_not_asked_is_exploratory(experiment: Experiment) -> None:
    measured = evaluation(experiment, {WITHOUT: -5.5}, noise=0.1)
    asked = made_up.declared(measured, ["style"])
    found = effects(asked, experiment)
    assert all(one.comparison.exploratory for one in found)
    told = experiment_table(found, asked, experiment)
    assert "exploratory" in told.sentences[2] and told.next_step == "No question is open."
    assert AXES["colour_cast"][0].margin <= found[0].floor


def test_the_page_shows_pictures_of_the_same_noise(experiment: Experiment, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "#ffcc00").save(tmp_path / "a.png")
    measured = evaluation(experiment, {}, noise=0.1)
    for row in measured.models:
        named = {"L": {id: ["a.png"] for id in row.per_prompt["colour_cast"]}}
        object.__setattr__(row, "pictures", named)
    table = experiment_table(effects(measured, experiment), measured, experiment)
    pictures = pictures_of([(measured, tmp_path)])
    write_page(table, experiment, measured, pictures, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().count("data:image/webp") == 8 * 5


def test_a_stopped_variant_is_told_from_the_first_prompts_and_never_called(
    experiment: Experiment, tmp_path: Path
) -> None:
    moved = experiment.compared[0].stages[0]
    first = evaluation(experiment, {WITHOUT: -5.5, moved: 5.5}, noise=0.1)
    whole = replace(first, models=[row for row in first.models if WITHOUT not in row.name])
    found = effects(whole, experiment, first)
    told = {one.variant.removeprefix("without_"): one for one in found}
    assert told["backgwa_base"].comparison.outcome == "worse"
    stopped = told["backgwa_additional"]
    assert [name for name, one in told.items() if one.stopped] == ["backgwa_additional"]
    assert stopped.comparison.outcome == "open" and stopped.comparison.p == 1
    assert stopped.comparison.gain == pytest.approx(5.5, abs=0.4)
    # The family stays as large as without stopping.
    without = {one.variant: one.comparison.p for one in effects(first, experiment)}
    assert told["backgwa_base"].comparison.p == without["without_backgwa_base"]
    table = experiment_table(found, whole, experiment)
    assert table.sentences[2].endswith("(stopped after 24 prompts).")
    pictures = pictures_of([(first, tmp_path), (whole, tmp_path)])
    halved = replace(experiment, first="first")
    write_page(table, halved, whole, pictures, tmp_path / "page.html")
    assert "stopped early have the numbers" in (tmp_path / "page.html").read_text()
    assert effect_rows(found, experiment)[-1]["stopped"] is True
