"""Selection on made-up evaluations: constraints, front, ties, and a reason for everybody."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from onmodel.errors import InputError
from onmodel.evaluate.assess import Assessed, shared_tables
from onmodel.evaluate.axes import AXES, AxisResult, Unavailable, evaluate_axis
from onmodel.evaluate.axes.base import cost, prompt_costs
from onmodel.evaluate.selection import Constraints, select
from onmodel.evaluate.statistics import pareto_front
from tests.support.drawn_family import Faults, evidence
from tests.support.graded_models import model


def reasons(found: Any) -> Mapping[str, str]:
    return {verdict.name: verdict.reason for verdict in found.verdicts}


def test_a_clear_winner_wins_and_losers_hear_why() -> None:
    rows = [model("a@10", outfit_keep=0.9), model("a@20"), model("a@30", drift=0.6)]
    found = select(rows, Constraints(), seed=1)
    assert found.chosen == ["a@20"] and not found.too_close_to_call and found.constraints_met
    told = reasons(found)
    assert told["a@20"] == "the least biased"
    assert told["a@10"].startswith("worse than a@20: outfit kept by 0.") and "p 0.0" in told["a@10"]
    assert told["a@30"].startswith("worse than a@20: base drift by 0.")
    shared = reasons(select([model("a@10", expression=0.5), model("a@20")], Constraints(), seed=1))
    assert "expressive range by" not in shared["a@10"]  # the rows of this joint axis are unknown


def test_a_joint_axis_is_a_reason_where_its_rows_are_known() -> None:
    rows, results = [], []
    for name, faults in (("a@10", Faults(wrong_hair=True)), ("a@20", Faults())):
        axes: dict[str, AxisResult | Unavailable] = {}
        axes["design"] = evaluate_axis("design", evidence(faults, seeds=1))
        results.append(Assessed(axes, {}, {}))
        rows.append(results[-1].row(name, None, "s"))
    found = reasons(select(rows, Constraints(), 1, shared_tables(results)))
    assert found["a@10"].startswith("worse than a@20: design errors by ")
    assert "design errors by" not in reasons(select(rows, Constraints(), 1))["a@10"]


def test_among_models_too_close_to_call_the_least_biased_is_taken_and_the_others_are_named() -> (
    None
):
    rows = [
        model("a@10", drift=0.8),
        model("a@20", noise=0.1),
        model("a@30", noise=0.1),
        model("a@40", noise=0.1),
    ]
    found = select(rows, Constraints(), seed=1)
    bias = {verdict.name: verdict.bias for verdict in found.verdicts}
    assert found.chosen == [min(bias, key=bias.__getitem__)] == ["a@30"] and found.too_close_to_call
    assert found.alike == ["a@20", "a@30", "a@40"]
    assert reasons(found)["a@30"] == "the least biased, not told apart from a@20, a@40"
    assert reasons(found)["a@40"].startswith(
        "cannot be told from a@30, which is less biased by 0.0"
    )


def test_exact_twins_tie() -> None:
    rows = [model("a@10", noise=0), model("a@20", noise=0)]
    found = select(rows, Constraints(), seed=1)
    assert found.chosen == ["a@10"] and found.too_close_to_call


def test_constraints_hold_for_the_bounds_of_intervals() -> None:
    rows = [model("a@10", reproduction=0.3), model("a@20", expression=0.3)]
    low = rows[0].scores["reproduction"].low
    assert select(rows[:1], Constraints(at_least={"reproduction": low - 0.01}), 1).constraints_met
    strict = select(rows, Constraints(at_least={"reproduction": low + 0.01}), 1)
    assert strict.chosen == ["a@20"] and "with 95 % confidence" in reasons(strict)["a@10"]


def test_a_bound_on_a_signed_axis_is_one_of_its_size() -> None:
    yellow, blue = model("a@10", colour_cast=0.5), model("b@10", colour_cast=-0.6)
    for row in (yellow, blue):
        found = select([row], Constraints(at_most={"colour_cast": 3}), 1)
        assert not found.constraints_met and "at most" in reasons(found)[row.name]
    assert select([model("c@10")], Constraints(at_most={"colour_cast": 3}), 1).constraints_met


def test_when_nobody_meets_the_constraints_the_least_bad_is_kept_and_it_says_so() -> None:
    rows = [
        model("a@10", reproduction=0.6),
        model("a@20", reproduction=0.4, drift=0.5),
        model("a@30", reproduction=0.5),
    ]
    found = select(rows, Constraints(at_least={"reproduction": 0.9}), 1)
    assert found.chosen == ["a@20"] and not found.constraints_met
    assert "least bad" in reasons(found)["a@20"]
    many = select([*rows, model("a@40")], Constraints(count=2, at_least={"reproduction": 0.8}), 1)
    assert many.chosen == ["a@40", "a@20"] and not many.constraints_met


def test_several_are_ranked_by_front_then_bias() -> None:
    rows = [
        model("a@10", drift=0.4, style=0.2),
        model("a@20", drift=0.3),
        model("a@30"),
        model("b", expression=0.2),
    ]
    found = select(rows, Constraints(count=3), 1)
    assert found.chosen[0] == "a@30" and "a@10" not in found.chosen
    assert [v.front > 0.5 for v in found.verdicts if v.name == "a@30"] == [True]


def test_a_stage_can_be_limited() -> None:
    rows = [
        model("a@10"),
        model("a@20"),
        model("a@30"),
        model("b@10", drift=0.3),
        model("c", drift=0.5),
    ]
    found = select(rows, Constraints(count=3, per_stage_max=1), 1)
    assert {name.partition("@")[0] for name in found.chosen} == {"a", "b", "c"}
    with pytest.raises(InputError, match="per_stage_max"):
        select(rows[:3], Constraints(count=2, per_stage_max=1), 1)


def test_axes_that_somebody_lacks_are_not_compared() -> None:
    rows = [model("a@10", missing=("drift", "style")), model("a@20")]
    found = select(rows, Constraints(), 1)
    assert "drift" not in found.axes and "reproduction" in found.axes
    with pytest.raises(InputError, match=r"constraint on drift.*no tagger"):
        select(rows, Constraints(at_most={"drift": 0.5}), 1)
    with pytest.raises(InputError, match="no axis was measured"):
        select([model("a@10", missing=tuple(AXES))], Constraints(), 1)


def test_more_are_wanted_than_there_are() -> None:
    with pytest.raises(InputError, match="only 1"):
        select([model("a@10")], Constraints(count=2), 1)


def test_the_same_evaluation_gives_the_same_choice() -> None:
    rows = [model(f"a@{e}", noise=0.1) for e in (10, 20, 30)]
    assert select(rows, Constraints(count=2), 7) == select(rows, Constraints(count=2), 7)


def test_pareto_front() -> None:
    costs = np.array([[1.0, 2.0], [2.0, 1.0], [2.0, 2.0], [1.0, 2.0]])
    assert pareto_front(costs).tolist() == [True, True, False, True]


def test_costs_count_from_the_ideal_in_faults() -> None:
    axis = {id: axis for id, (axis, _) in AXES.items()}
    assert cost(axis["reproduction"], np.array(0.9)) == pytest.approx(0.1)
    assert cost(axis["colour_cast"], np.array(-5.0)) == pytest.approx(0.5)
    assert cost(axis["composition"], np.array(0.7)) == pytest.approx(0.3)
    swinging, shifted = np.array([-4.0, 4.0, 0.0]), np.array([-4.0, -2.0, -3.0])
    assert prompt_costs(axis["colour_cast"], swinging).mean() == pytest.approx(0)
    assert prompt_costs(axis["colour_cast"], shifted).mean() == pytest.approx(0.3)
