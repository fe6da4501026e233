"""The result of a comparison in plain sentences: numbers that a person can count."""

from dataclasses import replace

import pytest

from onmodel.evaluate.axes import AXES
from onmodel.evaluate.compare import Comparison, Outcome
from onmodel.evaluate.evaluation import EvaluatedModel, Evaluation, Score
from onmodel.evaluate.headlines import MOST, plain_number, result_of
from onmodel.report.source import ReportSource
from tests.support.report_project import made_up


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ReportSource:
    return made_up(tmp_path_factory.mktemp("source"))


def change(axis: str, outcome: Outcome, gain: float, against: str = "preview@20") -> Comparison:
    return Comparison(AXES[axis][0], against, outcome, gain, gain - 0.1, gain + 0.1, 0.01, n=24)


def said(source: ReportSource, *rows: Comparison) -> list[str]:
    assert source.published is not None and source.shown is not None
    return result_of(source.published, source.shown, {"preview@20": rows}).sentences


def test_a_change_for_the_worse_says_what_to_do(source: ReportSource) -> None:
    (sentence,) = said(source, change("colour_cast", "worse", -9.0))
    assert sentence.startswith("Worse than Preview @20 on colour cast:")
    assert sentence.endswith("Correct the colour of the training pictures before training.")


def test_more_than_six_changes_are_counted(source: ReportSource) -> None:
    rows = [change(axis, "better", 0.1 * (i + 1)) for i, axis in enumerate(list(AXES)[:8])]
    sentences = said(source, *rows)
    assert len(sentences) == MOST + 1 and sentences[-1].startswith("2 smaller changes")


def test_what_is_the_same_and_what_is_open_come_last(source: ReportSource) -> None:
    same, open_ = change("grain", "same", 0.0), change("design", "open", 0.04)
    explored = replace(change("drift", "open", 0.04), exploratory=True)
    first, *rest = said(source, open_, explored, same, change("style", "better", 0.5))
    assert first.startswith("Better than Preview @20 on style")
    assert rest[0] == "Unchanged: grain."
    assert rest[1].startswith("Open: design errors (about ") and "drift" not in rest[1]


def test_the_worst_trait_is_named_with_its_share(source: ReportSource) -> None:
    def model(missing: float) -> EvaluatedModel:
        traits = {
            "horns": {"checks": 24, "violated": 1.0, "references": 0.0},
            "red hair": {"checks": 24, "violated": missing, "references": 0.0},
        }
        details = {"traits": traits, "worst": "horns", "required": ["horns", "red hair"]}
        score = Score("design", missing, missing, missing, 24, "L", "s")
        rows = {"design": [[1.0, missing, 1.0, 1.0]] * 24}
        return EvaluatedModel("m", {"design": score}, {}, rows=rows, details={"design": details})

    assert source.published is not None
    shared = {"design": {"own": [0.0, 0.0], "severity": [1.0, 1.0]}}
    axes = {**source.published.axes, "design": AXES["design"][0]}
    published = replace(source.published, shared=shared, axes=axes)
    text = plain_number(published, model(0.93), AXES["design"][0], model(0.13))
    assert text == "red hair is missing in 93% of the pictures"


def test_styles_are_counted_by_prompt(source: ReportSource) -> None:
    evaluation = source.published
    assert isinstance(evaluation, Evaluation)
    prompts = [prompt for prompt in evaluation.plan.prompts if "style" in prompt.asked]
    if not prompts:
        prompt = replace(evaluation.plan.prompts[0], asked={"style": "noir"})
        evaluation = replace(evaluation, plan=replace(evaluation.plan, prompts=(prompt,)))
        prompts = [prompt]
    answers = {
        prompt.id: {"style": {prompt.asked["style"]: [0.1], "something else": [0.9]}}
        for prompt in prompts
    }
    model = EvaluatedModel("m", {}, {}, answers=answers)
    text = plain_number(evaluation, model, AXES["style"][0], model)
    assert text == f"the asked style is drawn in 0 of {len(prompts)} prompts"


def test_the_subset_whose_style_the_pictures_reached_is_the_cause(source: ReportSource) -> None:
    def named(**pulls: float) -> str:
        assert source.published is not None and source.shown is not None
        details = {"pull_by_subset": pulls}
        models = [
            replace(one, details={**one.details, "style": {**one.details["style"], **details}})
            for one in source.published.models
        ]
        evaluation = replace(source.published, models=models)
        rows = {"preview@20": [change("style", "worse", -0.5)]}
        return result_of(evaluation, source.shown, rows).changes[0].sentence

    assert named(pastel=0.99, others=1.26).endswith(
        "draws like subset pastel where the prompt asks for no style."
    )
    assert "subset" not in named(pastel=0.4, others=0.1)
