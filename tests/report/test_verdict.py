"""Better, worse, too close to call: on planted differences, and in words."""

import copy
from dataclasses import replace
from typing import Any

import pytest

from onmodel.evaluate.statistics import mean_interval
from onmodel.report.source import Axis, ReportSource, axes_of
from onmodel.report.verdict import BEST_PARENT, adjusted, compare, comparisons, verdict

PROMPTS = [f"p{i}" for i in range(12)]


def axis_of(source: ReportSource, id: str) -> Axis:
    return next(axis for axis in axes_of(source.published or {}) if axis.id == id)


def measured(ours: list[float | None], theirs: list[float | None], axis: str) -> dict[str, Any]:
    rows = {"a": ours, "b": theirs}
    return {
        "models": [
            {"name": name, "per_prompt": {axis: dict(zip(PROMPTS, values, strict=False))}}
            for name, values in rows.items()
        ]
    }


def wave(level: float, size: float = 0.02) -> list[float | None]:
    return [level + size * (-1) ** i * (1 + i / 10) for i in range(len(PROMPTS))]


@pytest.mark.parametrize(
    ("id", "ours", "theirs", "outcome", "gain"),
    [
        ("reproduction", 0.9, 0.7, "better", 0.2),
        ("reproduction", 0.7, 0.9, "worse", -0.2),
        ("colour_cast", 1.0, 4.0, "better", 3.0),
        ("colour_cast", -1.0, 4.0, "better", 3.0),
        ("colour_cast", -4.0, 1.0, "worse", -3.0),
        ("style", 0.1, 0.5, "better", 0.4),
    ],
)
def test_a_planted_difference_is_found(
    source: ReportSource, id: str, ours: float, theirs: float, outcome: str, gain: float
) -> None:
    found = adjusted(
        [compare(axis_of(source, id), measured(wave(ours), wave(theirs, 0.03), id), "a", "b")]
    )[0]
    assert found.outcome == outcome
    assert found.gain == pytest.approx(gain, abs=0.02)
    assert found.low < found.gain < found.high


def test_a_factor_is_told_for_geometric_means(source: ReportSource) -> None:
    found = adjusted(
        [
            compare(
                axis_of(source, "composition"),
                measured(wave(0.9), wave(0.6), "composition"),
                "a",
                "b",
            )
        ]
    )[0]
    assert found.outcome == "better" and found.change.startswith("\N{MULTIPLICATION SIGN}1.5")


def test_twins_tie(source: ReportSource) -> None:
    found = adjusted(
        [compare(axis_of(source, "style"), measured(wave(0.5), wave(0.5)[::-1], "style"), "a", "b")]
    )[0]
    assert found.outcome == "close" and "too close to call" in found.sentence


def test_a_swing_to_both_sides_is_no_bias(source: ReportSource) -> None:
    swing: list[float | None] = [5.0 * (-1) ** i for i in range(len(PROMPTS))]
    found = compare(
        axis_of(source, "colour_cast"), measured(swing, wave(3.0), "colour_cast"), "a", "b"
    )
    assert found.gain == pytest.approx(3.0, abs=0.1)


def test_prompts_that_say_nothing_are_left_out_and_too_few_are_unavailable(
    source: ReportSource,
) -> None:
    axis = axis_of(source, "style")
    few: list[float | None] = [0.1, *[None] * 11]
    assert compare(axis, measured(few, wave(0.5), "style"), "a", "b").outcome == "unavailable"
    assert (
        compare(axis, measured([0.1, 0.2, *[None] * 10], wave(0.5), "style"), "a", "b").outcome
        == "close"
    )


def test_one_prompt_far_from_the_others_leaves_a_change_too_close_to_call(
    source: ReportSource,
) -> None:
    # All twelve fall, so no other signs of theirs fall lower; but the interval of such a mean holds
    # 0.
    fallen: list[float | None] = [0.68] * 11 + [0.0]
    level: list[float | None] = [0.7] * 12
    found = adjusted(
        [
            compare(
                axis_of(source, "reproduction"), measured(fallen, level, "reproduction"), "a", "b"
            )
        ]
    )[0]
    assert found.p < 0.01 and found.low < found.gain < 0 < found.high
    assert found.outcome == "close"


def test_the_more_axes_the_more_it_takes(source: ReportSource) -> None:
    one = compare(
        axis_of(source, "style"), measured(wave(0.47), wave(0.5, 0.03), "style"), "a", "b"
    )
    assert (
        adjusted([one])[0].p
        <= adjusted([replace(one, axis=axis) for axis in axes_of(source.published or {})])[0].p
    )


def test_the_best_parent_is_chosen_per_axis(source: ReportSource) -> None:
    evaluation = copy.deepcopy(source.evaluations["fresh"])
    row = next(row for row in evaluation["models"] if row["name"] == "release_2@40")
    row["axes"]["style"]["value"] = 0.0
    changed = replace(source, evaluations={"fresh": evaluation})
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
        list(source.measured["refined@10"]["per_prompt"]["reproduction"].values())
    ).value  # type: ignore[arg-type]
    assert (
        f"Reproduction stability {value:.2f}" in sentences[3]
        and "better than Preview @20 (higher by" in sentences[3]
    )


def test_nothing_measured_nothing_said(source: ReportSource) -> None:
    assert verdict(replace(source, evaluations={}, confirm=None)) == []
