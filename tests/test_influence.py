"""Leaving subsets out: which trainings are made, and what counts as an effect."""

import json
from pathlib import Path

import pytest

from onmodel.engine.influence import Leaving, effects, leave_out
from onmodel.engine.plan import make_plan
from onmodel.errors import InputError
from onmodel.evaluate.axes import AXES
from onmodel.evaluate.evaluation import Evaluation
from onmodel.randomness import generator
from onmodel.recipe import load_recipe
from onmodel.report.influence import as_dict, influence_table, write_page
from tests.support import evaluations as made_up
from tests.support.html_reader import Reader

RECIPE = Path(__file__).parent.parent / "recipes" / "release_2.toml"


@pytest.fixture(scope="module")
def leaving() -> Leaving:
    return leave_out(load_recipe(RECIPE), "release_2", None, twins=2, seeds=1)


def test_every_subset_is_left_out_once_at_the_same_cost(leaving: Leaving) -> None:
    steps = {step.name: step for step in make_plan(leaving.recipe)}
    assert list(leaving.without) == [
        "backgwa_base",
        "backgwa_alignment",
        "backgwa_additional",
        "others",
    ]
    whole = steps["release_2"].plan
    for subset, name in leaving.without.items():
        plan = steps[name].plan
        assert set(plan.exposures) == set(whole.exposures) - {subset}
        assert plan.steps == pytest.approx(whole.steps, rel=0.04) and plan.models == 1
    assert [steps[name].settings.seed for name in leaving.full] == [0, 1, 2]  # type: ignore[attr-defined]
    measured = steps[leaving.evaluation].settings
    assert measured.models == [*leaving.full, *leaving.without.values()]  # type: ignore[attr-defined]
    assert (measured.seeds, measured.suite) == (1, "thorough")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("training", "like", "twins", "said"),
    [
        ("five", None, 1, "five"),
        ("preview", None, 1, "one subset"),
        ("release_2", "nope", 1, "nope"),
        ("release_2", None, 0, "twin"),
    ],
)
def test_what_cannot_be_left_out_is_refused(
    training: str, like: str | None, twins: int, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        leave_out(load_recipe(RECIPE), training, like, twins, None)


def evaluation(leaving: Leaving, moved: dict[str, float], noise: float) -> Evaluation:
    """Casts: 6 everywhere but for what leaving out moves, with noise that a whole training
    shares."""
    models = []
    for name in [*leaving.full, *leaving.without.values()]:
        rng = generator(len(models), "cast")
        values = 6 + moved.get(name, 0.0) + noise * rng.normal() + 0.3 * rng.normal(size=24)
        per_prompt = {f"p{i}": float(v) for i, v in enumerate(values)}
        models.append(made_up.model(f"{name}@40", {"colour_cast": per_prompt}))
    return made_up.evaluation(models)


def test_a_subset_that_makes_the_yellow_is_found(leaving: Leaving, tmp_path: Path) -> None:
    axis = AXES["colour_cast"][0]
    told = evaluation(leaving, {leaving.without["backgwa_additional"]: -5.5}, noise=0.1)
    found = effects(told, leaving)
    assert {one.subset: one.outcome for one in found} == {
        "backgwa_base": "open",
        "backgwa_alignment": "open",
        "backgwa_additional": "harms",
        "others": "open",
    }
    harm = next(one for one in found if one.outcome == "harms")
    assert harm.effect.value * axis.fault == pytest.approx(-5.5, abs=0.4) and harm.floor < abs(
        harm.effect.value
    )
    axes = [axis]
    table = influence_table(found, axes, leaving)
    assert table.sentences[2] == "backgwa_additional harms colour cast."
    write_page(table, leaving, told, tmp_path / "influence.html")
    reader = Reader()
    reader.feed((tmp_path / "influence.html").read_text(encoding="utf-8"))
    text = " ".join(reader.text)
    assert reader.open == [] and "backgwa_additional harms colour cast." in text
    assert len(json.loads(json.dumps(as_dict(found, told, leaving)))["effects"]) == 4


def test_what_twins_do_too_is_no_effect(leaving: Leaving) -> None:
    told = evaluation(leaving, {}, noise=3.0)
    found = effects(told, leaving)
    surely = [one for one in found if one.p < 0.05]  # as the prompts alone would say
    assert len([one for one in found if one.outcome != "open"]) < len(surely)
