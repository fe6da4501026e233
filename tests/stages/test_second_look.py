"""A second look in a recipe: more prompts for open questions, the first pictures used again."""

from pathlib import Path
from typing import Any

import pytest

from onmodel.engine.plan import Step, make_plan
from onmodel.errors import InputError
from onmodel.evaluate.compare import compare_models
from onmodel.evaluate.evaluation import Evaluation, read_evaluation
from onmodel.evaluate.second_look import TELLS
from onmodel.recipe import load_recipe
from onmodel.records import Artifact
from onmodel.stages import evaluate
from onmodel.stages.base import Inputs
from tests.support.contexts import said
from tests.support.drawn_family import (
    DrawnFamily,
    colour_observers,
    drawn_context,
    drawn_dataset,
    install,
    trained,
)
from tests.support.hollow_stages import RECIPE, SHEET

PROMPTS, SEEDS, ARMS = 24, 2, 3 + 2 * 2


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> DrawnFamily:
    return install(monkeypatch)


def look(folder: Path, family: DrawnFamily, name: str, **changes: Any) -> tuple[Artifact, str]:
    """One look, which finds what others left in the folder; and what it said."""
    if not (folder / "a").exists():
        trained(folder, "a", {10: {}, 20: {"yellow": 0.15}})
        drawn_dataset(folder)
    there = {
        "a": Artifact("run", "a", folder / "a"),
        "references": Artifact("dataset", "r", folder / "references"),
        "first": Artifact("evaluation", "f", folder / "first" / "out"),
    }
    given = {
        "do": "evaluate",
        "models": ["a@*"],
        "suite": "confirm",
        "seeds": SEEDS,
        "size": 48,
        "steps": 4,
        "references": {"stage": "references", "subset": "reference"},
        "questions": ["grain", "colour_cast", "corruption"],
        **colour_observers(folder / "observers"),
    }
    context = drawn_context(folder, family, name)
    settings = evaluate.Settings.model_validate(given | changes)
    return evaluate.run(Inputs(there), settings, context), said(context)


def evaluation(artifact: Artifact) -> Evaluation:
    return read_evaluation(artifact.path / "evaluation.json")


def test_only_what_is_open_is_measured_again_and_the_first_pictures_are_used(
    family: DrawnFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TELLS, "grain", lambda asked: {"style", "expression"} <= asked.keys())
    artifact, words = look(tmp_path, family, "first")
    first, drawn = evaluation(artifact), family.drawn
    outcomes = {one.axis.id: one.outcome for one in compare_models(first, "a@20", "a@10")}
    assert (outcomes["grain"], outcomes["colour_cast"]) == ("open", "worse")
    artifact, words = look(tmp_path, family, "second", more_of="first")
    second = evaluation(artifact)
    assert drawn == PROMPTS * SEEDS * ARMS and family.drawn - drawn == 6 * SEEDS * ARMS
    assert "open in first: grain; 6 more prompts, 84 new pictures in " in words
    assert (second.look, list(second.axes), second.questions) == (2, ["grain"], ["grain"])
    assert second.first is not None and second.first.signature == first.signature
    assert second.plan.prompts[:PROMPTS] == first.plan.prompts
    assert len(second.plan.prompts) == PROMPTS + 6
    for row, before in zip(second.models, first.models, strict=True):
        values = before.values("grain")
        assert row.pictures["L"].items() >= before.pictures["L"].items()
        assert {id: row.values("grain")[id] for id in values} == values
    (found,) = compare_models(second, "a@20", "a@10")
    assert found.n > len(first.model("a@20").values("grain"))


def test_nothing_open_is_one_line_and_no_picture(family: DrawnFamily, tmp_path: Path) -> None:
    look(tmp_path, family, "first", questions=["colour_cast", "corruption"])
    drawn = family.drawn
    artifact, words = look(tmp_path, family, "second", more_of="first")
    assert words.strip() == "no question of first is open: nothing more is measured"
    assert family.drawn == drawn and not (artifact.path / "evaluation.json").exists()


def plan(folder: Path, more: str, old: str = "", new: str = "") -> list[Step]:
    text = RECIPE.replace(old, new) if old else RECIPE
    (folder / "recipe.toml").write_text(f"{text}\n{more}")
    (folder / "sheet.toml").write_text(SHEET.read_text())
    return make_plan(load_recipe(folder / "recipe.toml"))


AGAIN = '[stages.again]\ndo = "evaluate"\nmore_of = "measured"\n'
CONFIRM = ('do = "evaluate"', 'do = "evaluate"\nsuite = "confirm"')


def test_a_second_look_takes_over_the_settings_of_the_first(tmp_path: Path) -> None:
    steps = {step.name: step for step in plan(tmp_path, AGAIN, *CONFIRM)}
    first, second = (steps[name].settings.model_dump() for name in ("measured", "again"))
    assert second == first | {"more_of": "measured"}
    assert steps["again"].needs[0] == "measured"
    assert steps["again"].plan.pictures == steps["measured"].plan.pictures > 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (AGAIN.replace("measured", "chosen"), "chosen — makes a selection"),
        (AGAIN.replace("measured", "gone"), "gone — no such stage"),
        (AGAIN + "seeds = 4\n", "seeds: 4 — is taken over from measured; delete it here"),
        (AGAIN + AGAIN.replace("again", "third").replace("measured", "again"), "is a second look"),
        (
            AGAIN + '[stages.best]\ndo = "select"\ncandidates = "again"\n',
            "candidates: again — is a second look, at open questions alone; name the first one",
        ),
    ],
)
def test_a_wrong_second_look_is_one_line(tmp_path: Path, more: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        plan(tmp_path, more, *CONFIRM)


def test_another_suite_has_no_further_prompts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='uses suite "choose"; only suite "confirm"'):
        plan(tmp_path, AGAIN)
