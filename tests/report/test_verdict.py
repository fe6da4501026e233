"""Better, worse, same, open: on planted differences, and in words."""

from dataclasses import replace

import pytest

from onmodel.evaluate import compare as compare_module
from onmodel.evaluate.axes import AXES
from onmodel.evaluate.compare import Comparison, compare, compare_models, decide
from onmodel.evaluate.evaluation import EvaluatedModel, Evaluation
from onmodel.evaluate.headlines import MOST, label
from onmodel.evaluate.statistics import mean_interval
from onmodel.release import tables
from onmodel.report.source import ReportSource
from onmodel.report.verdict import comparisons, differences, result, sentence_of, verdict
from tests.support import evaluations as made_up

PROMPTS = [f"p{i}" for i in range(12)]


def compared(axis: str, ours: list[float], theirs: list[float]) -> Comparison:
    """a against b on one axis, as a family of its own."""
    a, b = (
        made_up.model(name, {axis: dict(zip(PROMPTS, values, strict=False))})
        for name, values in (("a", ours), ("b", theirs))
    )
    (found,) = decide([compare(made_up.evaluation([a, b]), axis, a, b)])
    return found


def wave(level: float, size: float = 0.02) -> list[float]:
    return [level + size * (-1) ** i * (1 + i / 10) for i in range(len(PROMPTS))]


@pytest.mark.parametrize(
    ("id", "ours", "theirs", "outcome", "gain"),
    [
        ("reproduction", 0.9, 0.7, "better", 0.2),
        ("reproduction", 0.7, 0.9, "worse", -0.2),
        ("colour_cast", 1.0, 6.0, "better", 5.0),
        ("colour_cast", -1.0, 6.0, "better", 5.0),
        ("colour_cast", -6.0, 1.0, "worse", -5.0),
        ("corruption", 0.1, 0.5, "better", 0.4),
    ],
)
def test_a_planted_difference_is_found(
    source: ReportSource, id: str, ours: float, theirs: float, outcome: str, gain: float
) -> None:
    found = compared(id, wave(ours), wave(theirs, 0.03))
    assert found.outcome == outcome
    assert found.gain == pytest.approx(gain, abs=0.02)
    assert found.low < found.gain < found.high


def test_a_factor_is_told_for_geometric_means(source: ReportSource) -> None:
    found = compared("composition", wave(0.9), wave(0.6))
    assert found.outcome == "better" and found.change.startswith("\N{MULTIPLICATION SIGN}1.5")


def test_twins_tie(source: ReportSource) -> None:
    found = compared("corruption", wave(0.5), wave(0.5)[::-1])
    assert found.outcome == "same" and sentence_of(found).startswith("same as B (difference")


def test_a_swing_to_both_sides_is_no_bias(source: ReportSource) -> None:
    swing: list[float] = [5.0 * (-1) ** i for i in range(len(PROMPTS))]
    found = compared("colour_cast", swing, wave(3.0))
    assert found.gain == pytest.approx(3.0, abs=0.1)


def test_prompts_that_say_nothing_are_left_out_and_too_few_are_unavailable(
    source: ReportSource,
) -> None:
    theirs = made_up.model("b", {"style": dict(zip(PROMPTS, wave(0.5), strict=True))})
    few = replace(theirs, name="a", per_prompt={"style": {"p0": 0.1}})
    both = made_up.evaluation([few, theirs])
    assert compare(both, "style", few, theirs).outcome == "unavailable"
    assert compared("corruption", [0.1, 0.2], wave(0.5)).n == 2


def test_one_prompt_far_from_the_others_leaves_a_change_too_close_to_call(
    source: ReportSource,
) -> None:
    # All twelve fall, so no other signs of theirs fall lower; but the interval of such a mean holds
    # 0.
    fallen: list[float] = [0.68] * 11 + [0.0]
    level: list[float] = [0.7] * 12
    found = compared("reproduction", fallen, level)
    assert found.p < 0.01 and found.low < found.gain < 0 < found.high
    assert found.outcome == "open" and "more prompts would likely settle it" in sentence_of(found)


def test_a_joint_axis_without_its_rows_is_never_called() -> None:
    """Files of before form 2 hold values per prompt alone, and those are not independent."""
    found = compared("style", wave(0.1), wave(0.9))
    assert found.outcome == "open" and found.gain > 0.7 and "measure again" in found.settled_by


def test_the_more_axes_the_more_it_takes(source: ReportSource) -> None:
    one = compared("corruption", wave(0.47), wave(0.5, 0.03))
    assert (
        decide([one])[0].p
        <= decide([replace(one, axis=axis) for axis in source.published.axes.values()])[0].p
    )


def test_a_change_below_the_margin_is_never_called(source: ReportSource) -> None:
    """However small its p: nobody notices a twentieth of a whole fault."""
    found = compared("reproduction", wave(0.75), wave(0.7))
    assert found.p < 0.01 and found.low > 0 and found.outcome == "same"
    wide = replace(found, high=0.2)
    assert decide([wide])[0].outcome == "open"


def test_questions_are_one_family_and_the_rest_explores(source: ReportSource) -> None:
    one = compared("corruption", wave(0.47), wave(0.6, 0.03))
    asked, other = replace(one, p=0.01), replace(one, axis=AXES["grain"][0], p=0.02)
    found = decide([asked, other, replace(asked, p=0.5)], ["corruption"])
    assert [row.p for row in found] == [0.02, 0.02, 0.5]
    assert [row.exploratory for row in found] == [False, True, False]


def test_the_shown_model_is_held_against_every_parent_in_one_family(source: ReportSource) -> None:
    found = comparisons(source)
    wanted = {label(name) for name in (*source.earlier, *source.ancestors)}
    assert found.keys() == wanted
    alone = compare_models(source.published, source.shown, source.earlier[0])
    together = found[label(source.earlier[0])]
    assert all(a.p <= b.p for a, b in zip(alone, together, strict=True) if not a.exploratory)


def test_sentences_name_every_axis_and_every_rival(source: ReportSource) -> None:
    sentences, top = verdict(source), result(source)
    assert top is not None and sentences[: len(top.sentences)] == top.sentences
    others, sentences = list(comparisons(source)), sentences[len(top.sentences) :]
    assert len(sentences) == 8
    assert sentences[-1] == "Base drift: unavailable, arm N was not generated."
    value = mean_interval(
        list(source.measured["refined@10"].per_prompt["reproduction"].values())
    ).value  # type: ignore[arg-type]
    assert (
        f"Reproduction stability {value:.2f}" in sentences[0]
        and "better than Preview @20 (higher by" in sentences[0]
    )
    assert all(any(name in sentence for sentence in sentences) for name in others)


def test_the_result_names_the_largest_changes_first_and_what_is_open(source: ReportSource) -> None:
    top = result(source)
    assert top is not None and 1 <= len(top.changes) <= MOST
    sizes = [abs(one.comparison.gain) / one.comparison.axis.fault for one in top.changes]
    assert sizes == sorted(sizes, reverse=True)
    ids = [one.comparison.axis.id for one in top.changes]
    assert len(set(ids)) == len(ids)
    first = top.changes[0]
    assert first.sentence.startswith("Better than") and first.remedy == ""
    assert first.prompt in {prompt.id for prompt in source.published.plan.prompts}  # type: ignore[union-attr]
    assert all(one.comparison.called for one in top.changes)


def test_nothing_measured_nothing_said(source: ReportSource) -> None:
    assert verdict(replace(source, evaluations={}, confirm=None)) == []


def test_page_and_card_decide_a_pair_by_one_family(source: ReportSource) -> None:
    assert source.published is not None and source.shown is not None
    previous = source.earlier[0]
    on_page = comparisons(source)[label(previous)]
    on_card = tables.result(source.published, source.shown, previous).changes
    assert [
        (one.axis.id, one.outcome, one.p) for one in on_page if one.outcome != "unavailable"
    ] == [(one.axis, one.outcome, one.comparison.p) for one in on_card]


def test_the_card_says_the_sentences_of_the_page(source: ReportSource) -> None:
    evaluation, shown, name = source.published, source.shown, source.published_name
    assert evaluation is not None and shown is not None and name is not None
    declared = replace(evaluation, against=("preview@20", "merged"))
    page = result(replace(source, evaluations={**source.evaluations, name: declared}))
    assert page is not None
    assert tables.result(declared, shown, "merged").sentences == page.sentences
    stages = dict(source.stages)
    stages["release"] = {**stages["release"], "previous": "release_1"}
    page = result(replace(source, stages=stages))
    assert page is not None and len(page.changes) > 1
    assert tables.result(evaluation, shown, "release_1@20").sentences == page.sentences


def test_a_page_says_where_models_were_chosen_on_its_own_prompts(source: ReportSource) -> None:
    evaluation, name = source.published, source.published_name
    assert evaluation is not None and name is not None
    assert not any("were chosen on these" in one for one in verdict(source))
    chosen = source.selections["five"].signature.replace("S:1", "S:2")
    again = replace(evaluation, signature=chosen)
    told = verdict(replace(source, evaluations={**source.evaluations, name: again}))
    assert any("were chosen on these same prompts" in one for one in told)


def test_each_pair_is_compared_once(source: ReportSource, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def counted(
        evaluation: Evaluation, axis: str, a: EvaluatedModel, b: EvaluatedModel
    ) -> Comparison:
        asked.append((axis, "|".join(sorted((a.name, b.name)))))
        return compare(evaluation, axis, a, b)

    monkeypatch.setattr(compare_module, "compare", counted)
    fresh = replace(source)  # without what the other tests cached
    assert fresh.published is not None and fresh.compared
    evaluation, found = fresh.published, differences(fresh)
    models, axes = len(evaluation.models), len(evaluation.axes)
    assert len(found) == models * (models - 1)
    assert len(asked) == len(set(asked)) == models * (models - 1) // 2 * axes


def test_only_declared_models_are_compared_with(source: ReportSource) -> None:
    assert source.published is not None
    evaluation = replace(source.published, against=("preview@20",))
    evaluations = {**source.evaluations, source.published_name: evaluation}
    assert list(comparisons(replace(source, evaluations=evaluations))) == ["Preview @20"]  # type: ignore[arg-type]
