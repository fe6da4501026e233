"""Better, worse, too close to call: on planted differences, and in words."""

from dataclasses import replace

import pytest

from onmodel.evaluate.compare import Comparison, compare, decide
from onmodel.evaluate.statistics import mean_interval
from onmodel.report.source import ReportSource
from onmodel.report.verdict import BEST_PARENT, comparisons, sentence_of, verdict
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
        ("colour_cast", 1.0, 4.0, "better", 3.0),
        ("colour_cast", -1.0, 4.0, "better", 3.0),
        ("colour_cast", -4.0, 1.0, "worse", -3.0),
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
    assert found.outcome == "close" and "too close to call" in sentence_of(found)


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
    assert found.outcome == "close"


def test_a_joint_axis_without_its_rows_is_never_called() -> None:
    """Files of before form 2 hold values per prompt alone, and those are not independent."""
    found = compared("style", wave(0.1), wave(0.9))
    assert found.outcome == "few" and found.gain > 0.7


def test_the_more_axes_the_more_it_takes(source: ReportSource) -> None:
    one = compared("corruption", wave(0.47), wave(0.5, 0.03))
    assert (
        decide([one])[0].p
        <= decide([replace(one, axis=axis) for axis in source.published.axes.values()])[0].p
    )


def test_the_best_parent_is_chosen_per_axis(source: ReportSource) -> None:
    evaluation = source.evaluations["fresh"]
    row = evaluation.model("release_2@40")
    best = replace(row, axes={**row.axes, "style": replace(row.scores["style"], value=0.0)})
    models = [best if one is row else one for one in evaluation.models]
    changed = replace(source, evaluations={"fresh": replace(evaluation, models=models)})
    against = {c.axis.id: c.against for c in comparisons(changed)[BEST_PARENT]}
    assert against["style"] == "release_2@40" and against["reproduction"] == "merged"


def test_sentences_name_every_axis_and_every_rival(source: ReportSource) -> None:
    sentences = verdict(source)
    assert [s.split(",")[0] for s in sentences[:3]] == [
        "Against Preview @20",
        "Against Release 1 @20",
        "Against its best parent on each axis",
    ]
    assert len(sentences) == 3 + 8
    assert sentences[-1] == "Base drift: unavailable, arm N was not generated."
    value = mean_interval(
        list(source.measured["refined@10"].per_prompt["reproduction"].values())
    ).value  # type: ignore[arg-type]
    assert (
        f"Reproduction stability {value:.2f}" in sentences[3]
        and "better than Preview @20 (higher by" in sentences[3]
    )


def test_nothing_measured_nothing_said(source: ReportSource) -> None:
    assert verdict(replace(source, evaluations={}, confirm=None)) == []
