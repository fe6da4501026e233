"""Which variants a first look leaves."""

from onmodel.evaluate.early_stop import EarlyStop, surest_effect
from onmodel.evaluate.evaluation import Evaluation
from onmodel.randomness import generator
from tests.support import evaluations as made_up

GROUPS = (("a",), ("b", "b_twin_1"), ("c",))
EARLY = EarlyStop(stage="first", prompts=12, base=("base",), variants=GROUPS)


def measured(moved: dict[str, float]) -> Evaluation:
    """Casts of every training, moved by what is given."""
    models = []
    for name in ("base", "a", "b", "b_twin_1", "c"):
        values = 6 + moved.get(name, 0.0) + 0.3 * generator(len(models), "cast").normal(size=12)
        per_prompt = {f"p{i}": float(value) for i, value in enumerate(values)}
        models.append(made_up.model(f"{name}@4", {"colour_cast": per_prompt}))
    return made_up.evaluation(models)


def test_the_half_with_the_surest_effects_goes_on_rounded_up() -> None:
    first = measured({"c": 9.0, "a": -6.0, "b": 1.0})
    assert EARLY.kept == 2 and EARLY.stopped == 1
    assert EARLY.going_on(first) == {"base", "a", "c"}


def test_of_several_trainings_the_least_sure_counts() -> None:
    first = measured({"b": 9.0, "c": 3.0})
    assert surest_effect(first, ["base"], ["b"]) > surest_effect(first, ["base"], ["c"]) > 0
    assert surest_effect(first, ["base"], ["b", "b_twin_1"]) < 0.1


def test_of_equals_the_earlier_goes_on() -> None:
    first = made_up.declared(measured({"c": 9.0}), ["style"])  # nothing measured was asked
    assert EARLY.going_on(first) == {"base", "a", "b", "b_twin_1"}
