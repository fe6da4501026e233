"""References between stages are checked by the plan: kind, checkpoint, subset and number."""

import time
from pathlib import Path

import pytest

from onmodel.engine.plan import Step, make_plan
from onmodel.errors import InputError
from onmodel.recipe import load_recipe
from tests.support.hollow_stages import RECIPE, SHEET


def plan(folder: Path, *edits: tuple[str, str]) -> list[Step]:
    text = RECIPE
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / "recipe.toml").write_text(text)
    (folder / "sheet.toml").write_text(SHEET.read_text())
    return make_plan(load_recipe(folder / "recipe.toml"))


def test_the_plan_knows_what_every_stage_makes(tmp_path: Path) -> None:
    steps = {step.name: step for step in plan(tmp_path)}
    assert {name: step.makes for name, step in steps.items()} == {
        "data": "dataset",
        "first": "models",
        "drawn": "pictures",
        "more": "dataset",
        "second": "models",
        "mixed": "models",
        "measured": "evaluation",
        "chosen": "selection",
        "release": "release",
    }
    names = ["first@2", "first@4", "second@2", "mixed"]
    assert steps["measured"].plan.names == names and steps["measured"].plan.models == 4
    assert steps["chosen"].plan.names is None


MODEL = "name a model: first"
WRONG = [
    # a checkpoint that is not there
    (['"first@*"', '"first@7"'], "measured.models: first@7 — no such checkpoint is kept"),
    (['"first@*"', '"first@3"'], "there are first@2, first@4"),
    (['"first@2"', '"first@1"'], "second.start: first@1 — no such checkpoint is kept"),
    (['"mixed"]', '"mixed@2"]'], "measured.models: mixed@2 — is one model without epochs"),
    (["keep_every = 2", "keep_every = 1\nkeep_last = 2"], "there are first@3, first@4"),
    (["keep_every = 2", "keep_every = 1\nkeep_best = 1"], "for sure; keep_best decides"),
    # the wrong kind
    (['models = ["first@*"', 'models = ["data"'], "measured.models: data — makes a data set; name"),
    (['models = ["first", "second"]', 'models = ["drawn"]'], "mixed.models: drawn — makes gener"),
    (['model = "first"', 'model = "data"'], f"drawn.model: data — makes a data set; {MODEL}"),
    (['model = "chosen"', 'model = "measured"'], "release.model: measured — makes an evaluation"),
    (['start = "first@2"', 'start = "more"'], "second.start: more — makes a data set"),
    (
        ['dataset = "more"', 'dataset = "first"'],
        "second.dataset: first — makes a model; name a dat",
    ),
    (
        ['dataset = "data"', 'dataset = "data@3"'],
        "first.dataset: data@3 — a data set has no epochs",
    ),
    (
        ['{ stage = "drawn" }', '{ stage = "first" }'],
        "more.subsets.drawn.stage: first — makes a mo",
    ),
    (
        ['{ stage = "drawn" }', '{ dataset = "drawn", subset = "base" }'],
        "more.subsets.drawn.dataset: drawn — makes generated pictures; name a data set: data",
    ),
    (['{ stage = "data", subset', '{ stage = "first", subset'], "measured.references: first — ma"),
    (
        ["[stages.chosen]", 'training = ["first"]\n[stages.chosen]'],
        "measured.training: first — mak",
    ),
    (['candidates = "measured"', 'candidates = "first"'], "name an evaluation: measured"),
    (['evaluation = "measured"', 'evaluation = "first"'], "release.evaluation: first — makes a mo"),
    # several models where one is needed
    (['model = "first"', 'model = "first@*"'], "drawn.model: first@* — names 2 models; name one"),
    (["[stages.release]", "count = 2\n[stages.release]"], "release.model: chosen — names 2 models"),
    # a subset, a number or a model that is not there
    (
        ['subset = "fine" }', 'subset = "fin" }'],
        "measured.references: fin — subsets of data: base,",
    ),
    (["epochs = 4", 'data = [{ subset = "bas" }]\nepochs = 4'], "first.data.subset: bas — subsets"),
    (
        ['{ stage = "drawn" }', '{ dataset = "data", subset = "bas" }'],
        "more.subsets.drawn.dataset: bas — subsets of data: base, fine",
    ),
    (
        ["[stages.release]", "count = 5\n[stages.release]"],
        "chosen.count: 5 — there are 4 candidates",
    ),
    (
        ["[stages.release]", 'among = ["third@*"]\n[stages.release]'],
        "chosen.among: third@* — matche",
    ),
    (
        ["[stages.release]", 'among = ["first@*"]\ncount = 3\n[stages.release]'],
        "chosen.count: 3 — there are 2 candidates: first@2, first@4",
    ),
    (
        ['title = "Little"', 'title = "Little"\nprevious = "third"'],
        "release.previous: third — names",
    ),
    (
        ["[stages.chosen]", 'triggers = { third = "x" }\n[stages.chosen]'],
        "measured.triggers: third",
    ),
    # another verb that takes models
    (
        ['do = "select"\ncandidates = "measured"', 'do = "tune"\nmodels = ["measured"]'],
        "chosen.models: measured — makes an evaluation; name a model: first, second, mixed",
    ),
    (
        ['do = "select"\ncandidates = "measured"', 'do = "search"\nmodels = ["more"]'],
        "chosen.models: more — makes a data set",
    ),
    # the order
    (['dataset = "data"', 'dataset = "dada"'], "first.dataset: dada — no such stage"),
    (['dataset = "data"', 'dataset = "more"'], "first.dataset: more — stands later in the recipe"),
]


@pytest.mark.parametrize(("edit", "said"), WRONG, ids=[said for _, said in WRONG])
def test_a_wrong_reference_is_one_line_before_anything_runs(
    edit: list[str], said: str, tmp_path: Path
) -> None:
    started = time.process_time()
    with pytest.raises(InputError) as error:
        plan(tmp_path, (edit[0], edit[1]))
    text = str(error.value)
    assert time.process_time() - started < 2
    assert text.startswith("stages.") and said in text, text
    assert "\n" not in text and str(tmp_path) not in text and "objects" not in text


def test_what_is_right_in_less_usual_ways_is_planned(tmp_path: Path) -> None:
    plan(tmp_path, ('start = "first@2"', 'start = "first"'))
    plan(tmp_path, ('"first@*"', '"first@4"'), ('"mixed"]', '"first@2", "mixed@*"]'))
    last = ("keep_every = 2", "keep_every = 1\nkeep_last = 3")
    assert {step.name: step for step in plan(tmp_path, last)}["first"].plan.names == [
        "first@2",
        "first@3",
        "first@4",
    ]
