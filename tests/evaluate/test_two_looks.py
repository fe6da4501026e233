"""A verdict that is looked at twice: no more false calls than the level says, and no outcome that
the choice of questions makes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from onmodel.evaluate import compare
from onmodel.evaluate.axes import AXES, Evidence, evaluate_axis
from onmodel.evaluate.compare import LEVEL, Comparison, compare_models, decide, first_look
from onmodel.evaluate.evaluation import Evaluation, as_json, evaluation_of
from onmodel.evaluate.first_look import Declared, FirstLook
from onmodel.evaluate.second_look import TELLS, further_prompts, tells
from onmodel.evaluate.statistics import sign_flip_p
from onmodel.randomness import generator
from onmodel.sample.suites import Prompt, suite
from onmodel.toon.attributes import VOCABULARY
from tests.support import evaluations as made_up
from tests.support.drawn_family import Faults, evidence, sheet

QUESTIONS = ("reproduction", "corruption", "drift", "outfit_keep")
FEW, MANY, PAGES = 8, 13, 600


def evaluation(values: Mapping[str, np.ndarray], axes: list[str], prompts: int) -> Evaluation:
    """Two models, `values` axis → [2, P], on the first prompts."""
    models = [
        made_up.model(
            name,
            {id: {f"p{p}": float(values[id][side, p]) for p in range(prompts)} for id in axes},
        )
        for side, name in enumerate(("other", "shown"))
    ]
    found = made_up.evaluation(models)
    return made_up.declared(found, axes)


def both_looks(values: Mapping[str, np.ndarray]) -> tuple[Evaluation, Evaluation | None]:
    """The first look, and the second where a question is open."""
    first = evaluation(values, list(QUESTIONS), FEW)
    known = first_look("first", first)
    if not known.open:
        return first, None
    return first, made_up.second(evaluation(values, known.open, MANY), known)


def false_calls(pages: int) -> int:
    """Pages with any call at either look, of two equal models that differ much by chance."""
    found = 0
    for page in range(pages):
        rng = generator(page, "two looks")
        values = {id: rng.normal(3.0, 1.0, (2, MANY)) for id in QUESTIONS}
        looks = [one for one in both_looks(values) if one is not None]
        calls = [one.called for look in looks for one in compare_models(look, "shown", "other")]
        found += any(calls)
    return found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """For means of independent prompts the swaps are flips of signs, which are quick to count."""

    def flipped(_: object, a: np.ndarray, b: np.ndarray, draws: int) -> tuple[float, float]:
        return sign_flip_p((a - b)[:, 0]), 2.0 ** (1 - len(a))

    monkeypatch.setattr(compare, "swap_p", flipped)


@pytest.mark.usefixtures("quick")
def test_two_looks_at_equal_models_call_as_seldom_as_the_level_says() -> None:
    assert false_calls(PAGES) <= stats.binom.ppf(0.999, PAGES, LEVEL)


@pytest.mark.usefixtures("quick")
def test_two_looks_at_the_whole_level_would_call_more_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the open questions alone as the family of the second look."""

    def whole(family: Sequence[Comparison], *_: object, **__: object) -> list[Comparison]:
        return decide(family, None, LEVEL)

    monkeypatch.setattr(compare, "decide", whole)
    assert false_calls(PAGES) > stats.binom.ppf(0.95, PAGES, LEVEL)


def test_a_question_that_chance_left_open_is_not_tested_as_the_only_one() -> None:
    values = {id: np.full((2, MANY), 0.5) for id in QUESTIONS}
    values["reproduction"] = generator(14, "open").normal(0.5, 0.2, (2, MANY))
    _, second = both_looks(values)
    assert second is not None and list(second.axes) == ["reproduction"]
    (alone,) = decide([compare.compare(second, "reproduction", *second.models[::-1])])
    (found,) = compare_models(second, "shown", "other")
    assert found.p == pytest.approx(min(1, 4 * alone.p)) and alone.p < 0.25


def test_what_is_open_after_the_second_look_needs_a_new_test() -> None:
    values = {id: np.full((2, MANY), 0.5) for id in QUESTIONS}
    values["reproduction"] = generator(14, "open").normal(0.5, 0.2, (2, MANY))
    first, second = both_looks(values)
    assert second is not None
    before = {one.axis.id: one for one in compare_models(first, "shown", "other")}["reproduction"]
    assert before.outcome == "open" and "would likely settle it" in before.settled_by
    (found,) = compare_models(second, "shown", "other")
    assert found.outcome == "open" and "more prompt" not in found.settled_by
    assert found.settled_by.startswith("both looks") and "new test" in found.settled_by


def test_an_open_question_says_how_few_prompts_show_it() -> None:
    draw = generator(3, "few")
    rows = {"body": 6, "reproduction": 24}
    models = []
    for name in ("other", "shown"):
        values = {id: {f"p{p}": draw.normal(0.3, 0.3) for p in range(n)} for id, n in rows.items()}
        models.append(made_up.model(name, values))
    found = {
        one.axis.id: one for one in compare_models(made_up.evaluation(models), "shown", "other")
    }
    assert found["body"].settled_by.startswith("6 of 24 prompts show it; ")
    assert "prompts show it" not in found["reproduction"].settled_by


def test_a_difference_that_is_open_is_settled_by_more_prompts() -> None:
    values = {id: generator(1, id).normal(0.5, 0.001, (2, MANY)) for id in QUESTIONS}
    falls = [0.3] * 6 + [-0.1, -0.05] + [0.9] * (MANY - FEW)  # the two that rise leave it open
    values["drift"] = 0.5 - np.array([[0.0] * MANY, falls])
    first, second = both_looks(values)
    assert second is not None and second.look == 2
    assert {one.axis.id: one.outcome for one in compare_models(first, "shown", "other")}[
        "drift"
    ] == "open"
    (found,) = compare_models(second, "shown", "other")
    assert (found.outcome, found.axis.id, found.n) == ("better", "drift", MANY)
    (turned,) = compare_models(second, "other", "shown")
    assert turned.outcome == "worse"


def test_what_was_called_at_the_first_look_stays_called() -> None:
    """With three models an axis may be open against one and called against another."""
    rng = generator(2, "three")
    noise = rng.normal(0, 0.1, (3, MANY))
    level = np.array([[0.9], [0.2], [0.8]])
    table = np.clip(level + noise, 0, 1)

    def look(prompts: int) -> Evaluation:
        names = ("shown", "far", "near")
        rows = [
            made_up.model(name, {"corruption": {f"p{p}": float(row[p]) for p in range(prompts)}})
            for name, row in zip(names, table, strict=True)
        ]
        return made_up.declared(made_up.evaluation(rows[::-1]), ["corruption"])

    known = first_look("first", look(FEW))
    of_shown = [one for one in known.found if one.model == "shown"]
    assert {one.against: one.outcome for one in of_shown} == {"far": "worse", "near": "open"}
    assert len(known.found) == 6  # what a page of another model calls stays called, too
    second = made_up.second(look(FEW), known)  # so few prompts that 0.01 is out of reach
    found = compare.compare_declared(second, "shown")
    assert found["far"][0].outcome == "worse"
    assert found["far"][0].p == next(one.p for one in known.found if one.against == "far")
    assert compare_models(second, "far", "shown")[0].outcome == "better"


def test_the_file_of_a_second_look_names_the_first() -> None:
    rng = generator(7, "file")
    _, second = both_looks({id: rng.normal(0.5, 0.3, (2, MANY)) for id in QUESTIONS})
    assert second is not None
    again = evaluation_of(as_json(second))
    assert again.first == second.first and again.look == 2
    assert AXES.keys() >= again.axes.keys() and list(again.axes) == again.first.open


@pytest.fixture(scope="module")
def whole() -> list[Prompt]:
    return suite("thorough", sheet(), VOCABULARY)


@pytest.fixture(scope="module")
def drawn(whole: list[Prompt]) -> Evidence:
    return evidence(Faults(expression="smile"), whole, seeds=2, suite_name="thorough")


def look_with(outcomes: Mapping[str, str]) -> FirstLook:
    rows = [Declared(axis, "a", "b", outcome, 0.5) for axis, outcome in outcomes.items()]  # type: ignore[arg-type]
    return FirstLook("first", "", 24, rows)


def test_only_prompts_that_tell_an_open_question_are_added(whole: list[Prompt]) -> None:
    first = look_with({"expression": "open", "style": "same", "outfit_change": "better"})
    added = further_prompts(whole, first)
    assert len(added) == 12 and all("expression" in prompt.asked for prompt in added)
    assert all(prompt in whole[24:] for prompt in added)
    assert len(further_prompts(whole, look_with({"expression": "open", "design": "open"}))) == 24
    assert further_prompts(whole, look_with({"design": "same"})) == []


@pytest.mark.parametrize("axis", [*TELLS, "style", "design", "colour_cast"])
def test_a_value_follows_from_the_prompts_that_tell_the_axis(
    axis: str, whole: list[Prompt], drawn: Evidence
) -> None:
    telling = [prompt for prompt in whole if tells(axis, prompt)]
    places = np.array([whole.index(prompt) for prompt in telling])[:, None], np.arange(2)[None]
    arms = {letter: found.take(places) for letter, found in drawn.arms.items()}
    every = evaluate_axis(axis, drawn)
    few = evaluate_axis(axis, replace(drawn, prompts=telling, arms=arms))
    assert every.per_prompt.keys() == few.per_prompt.keys() <= {one.id for one in telling}
    assert every.per_prompt == pytest.approx(few.per_prompt, abs=1e-5)
