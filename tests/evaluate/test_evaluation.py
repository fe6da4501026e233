"""evaluation.json: the same after reading and writing, an older form is read, damage is named."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onmodel.errors import InputError, StateError
from onmodel.evaluate.evaluation import (
    FILE,
    SCHEMA,
    Evaluation,
    NegativeEffect,
    NegativePrompt,
    NotMeasured,
    ObserverRecord,
    as_json,
    evaluation_of,
    read_evaluation,
    write_evaluation,
)
from onmodel.evaluate.plan import make_plan, signature_of
from onmodel.sample.sampling import Sampling
from tests.support import evaluations as made_up

VALUES = {"style": {"p": 0.25, "q": 0.5}, "reproduction": {"p": 0.5, "q": 1.0}}
DETAILS = {"reproduction": {"threshold": 0.6, "agreement": {"p": [0.5, 0.7]}, "seed_spread": None}}


def whole() -> Evaluation:
    """One model and one control with everything that the file can hold."""
    row = made_up.model("a@1", VALUES, {"drift": "arm N was not generated"}, epoch=1)
    effect = {"style": NegativeEffect(0.1, 0.0, 0.2, 2, 0.3, True, 0.5)}
    row = replace(
        row,
        sha256="1" * 64,
        trigger="backgwa",
        details=DETAILS,
        answers={"p": {"expression": {"smile": (0.5, 0.75), "sad": (0.5, 0.25)}}},
        pictures={"L": {"p": ("pictures/1.png", "pictures/2.png")}},
        negative=NegativePrompt(effect, row.axes),
    )
    control = made_up.model("D", {"style": VALUES["style"]})
    plan = made_up.plan(
        [made_up.prompt("p", "expression", expression="smile"), made_up.prompt("q")]
    )
    evaluation = made_up.evaluation([row], plan, controls={"D": control})
    return replace(evaluation, observers={"tagger": [ObserverRecord("toon", None)]})


def table() -> dict[str, Any]:
    """The values of the file, as JSON gives them."""
    return json.loads(json.dumps(as_json(whole())))


def changed(path: str, value: object) -> dict[str, Any]:
    """The file with another value at a place such as `models.0.epoch`."""
    found: Any = table()
    *parts, last = path.split(".")
    place = found
    for part in parts:
        place = place[int(part)] if isinstance(place, list) else place[part]
    place[int(last) if isinstance(place, list) else last] = value
    return found


def test_what_was_written_is_read_and_writes_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / FILE, tmp_path / "again.json"
    write_evaluation(first, whole())
    found = read_evaluation(first)
    write_evaluation(second, found)
    assert second.read_bytes() == first.read_bytes()
    assert next(iter(table())) == "schema" and table()["schema"] == SCHEMA
    (model,) = found.models
    assert model.score("style") == whole().models[0].score("style")
    assert model.score("drift") is None and model.why_not("drift") == "arm N was not generated"
    assert isinstance(model.axes["drift"], NotMeasured)
    assert model.agreement is not None and model.agreement.agreement["p"] == [0.5, 0.7]
    assert model.hue_gain is None and found.controls["D"].name == "D"
    assert found.plan.sampling.steps == 2 and found.model("a@1") is model
    with pytest.raises(InputError, match=r"was not measured; the evaluation has a@1"):
        found.model("a@2")


def test_a_file_of_before_the_forms_had_numbers_is_read() -> None:
    old = table()
    del old["schema"], old["observers"], old["plan"]["training"]
    (row,) = old["models"]
    del row["trigger"], row["answers"], row["negative"]
    row["per_prompt"] |= {"style": {"p": 0.25, "q": None}, "drift": None}
    row["details"] = {"reproduction": 0.9, "style": {"pull": 0.1}}
    before = copy.deepcopy(old)
    found = evaluation_of(old)
    assert old == before
    (model,) = found.models
    assert model.values("style") == {"p": 0.25} and model.values("drift") == {}
    assert model.agreement is None and model.trigger == "" and found.plan.training == ""
    assert (found.schema, evaluation_of(table()).schema) == (0, SCHEMA)


def test_a_file_of_form_1_has_no_rows_and_is_read() -> None:
    old = table()
    old["schema"] = 1
    del old["shared"], old["models"][0]["rows"], old["controls"]["D"]["rows"]
    found = evaluation_of(old)
    assert found.schema == 1 and found.shared == {} == found.models[0].rows


def test_rows_of_a_joint_axis_are_held_against_the_plan() -> None:
    whole = table()
    whole["shared"] = {"style": {"styled": [0], "plain": [0, 1]}}
    whole["models"][0]["rows"] = {"style": [[0.5], [0.25]]}
    assert evaluation_of(whole).models[0].rows["style"] == [[0.5], [0.25]]
    for damaged in ([[0.5]], [[0.5], [0.5, 0.25]]):
        whole["models"][0]["rows"] = {"style": damaged}
        with pytest.raises(InputError, match="one row of equal length"):
            evaluation_of(whole)
    whole["models"][0]["rows"] = {"reproduction": [[0.5], [0.5]]}
    with pytest.raises(InputError, match="is no joint axis"):
        evaluation_of(whole)


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("schema", SCHEMA + 1, "evaluation.schema"),
        ("schema", "1", "evaluation.schema"),
        ("signature", None, "evaluation.signature"),
        ("plan", [], "evaluation.plan"),
        ("plan.steps", "many", "evaluation.plan.steps"),
        ("plan.size", [1], "evaluation.plan.size.1"),
        ("plan.prompts.0.text", "words", "evaluation.plan.prompts.0.text"),
        ("axes.style.fault", 0, "evaluation.axes.style.fault"),
        ("axes.style.id", "drift", "evaluation.axes.style.id"),
        ("observers.tagger.0", {}, "evaluation.observers.tagger.0.from"),
        ("models", {}, "evaluation.models"),
        ("models.0.name", 3, "evaluation.models.0.name"),
        ("models.0.axes.style.value", "0.5", "evaluation.models.0.axes.style.value"),
        ("models.0.axes.style.low", float("nan"), "evaluation.models.0.axes.style.low"),
        ("models.0.axes.drift.why", 1, "evaluation.models.0.axes.drift.why"),
        ("models.0.axes.nothing", {"value": None}, "evaluation.models.0.axes.nothing"),
        ("models.0.per_prompt.style.z", 0.5, "evaluation.models.a@1.per_prompt.style"),
        ("models.0.per_prompt.style.p", None, "evaluation.models.0.per_prompt.style.p"),
        ("models.0.details.reproduction", 1, "evaluation.models.0.details"),
        ("models.0.answers.q", {"view": {}}, "evaluation.models.a@1.answers"),
        ("models.0.pictures.L.p", ["one"], "evaluation.models.a@1.pictures.L"),
        ("models.0.negative.without", {}, "evaluation.models.a@1.negative.without"),
        ("controls", [], "evaluation"),
    ],
)
def test_the_damaged_field_is_named(path: str, value: object, field: str, tmp_path: Path) -> None:
    damaged = changed(path, value)
    with pytest.raises(InputError) as error:
        evaluation_of(damaged)
    assert error.value.field.startswith(field)
    (tmp_path / FILE).write_text(json.dumps(damaged))
    with pytest.raises(StateError, match=r"evaluation\.json: is damaged: evaluation"):
        read_evaluation(tmp_path / FILE)


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["models"].append(found["models"][0]),
        lambda found: found.pop("plan"),
        lambda found: found.pop("models"),
        lambda found: found.pop("schema") and found.pop("models"),
        lambda found: found.pop("schema") and found.update(models=[3]),
    ],
)
def test_what_is_missing_or_twice_is_one_line(change: Callable[[dict[str, Any]], object]) -> None:
    found = table()
    change(found)
    with pytest.raises(InputError, match="evaluation"):
        evaluation_of(found)
    with pytest.raises(InputError, match="is no table"):
        evaluation_of([found])


@pytest.mark.parametrize(
    ("sampling", "named"),
    [
        (Sampling(), "euler-flow-2"),
        (Sampling(sampler="er_sde", schedule="simple"), "er_sde-simple-1"),
        (Sampling(empty_text="comfyui"), "euler-flow-2-comfyui_empty_text"),
    ],
)
def test_a_plan_says_which_sampler_made_its_pictures(sampling: Sampling, named: str) -> None:
    plan = make_plan("b" * 64, "confirm", [], 2, sampling, {}, "")
    assert plan.sampling == sampling
    assert f"|{named}|" in signature_of(plan)
