"""Experiments: which stages a table of variants becomes, and what is refused before any work."""

from pathlib import Path

import pytest

from onmodel.engine import local
from onmodel.engine.experiments import Experiment, experiment_of, influence_of
from onmodel.engine.plan import Step, make_plan
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.recipe import Recipe, load_recipe
from onmodel.stages.curate import Settings as CurateSettings
from onmodel.stages.evaluate import Settings as EvaluateSettings
from onmodel.stages.train import Settings as TrainSettings
from tests.support.hollow_stages import Workplace, workplace

__all__ = ["workplace"]
RECIPES = Path(__file__).parents[2] / "recipes"
RELEASE_2 = RECIPES / "release_2.toml"
RECIPE = """
[recipe]
name = "varied"
character = "toon:backgwa"
date = "2026-11-22"
threads = 1
[stages.references]
do = "curate"
subsets.reference = [{ toon = "reference" }]
heldout_subsets = ["reference"]
[stages.data]
do = "curate"
[stages.data.subsets]
main = [{ toon = "backgwa_base", count = 30 }]
extra = [{ toon = "backgwa_additional", count = 10 }]
[stages.trained]
do = "train"
dataset = "data"
data = [{ subset = "main", repeats = 2 }, { subset = "extra", repeats = 4 }]
epochs = 6
keep_every = 2
batch = 4
rank = 8
learning_rate = { toon = 1e-3, anima = 1e-5 }
[stages.other]
do = "train"
dataset = "data"
epochs = 2
learning_rate = 1e-3
[stages.mixed]
do = "merge"
models = ["trained", "other"]
[stages.measured]
do = "evaluate"
models = ["trained"]
training = ["data"]
references = { stage = "references", subset = "reference" }
[experiments.first]
base = "trained"
"""
MERGES = '[experiments.merges]\nbase = "mixed"\n'


def varied(folder: Path, variants: str, more: str = "") -> Experiment:
    """The experiment `first` of the recipe with these lines of its table."""
    return experiment_of(read(folder, RECIPE + more + variants), "first")


def read(folder: Path, text: str) -> Recipe:
    path = folder / "varied.toml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path)


def steps_of(experiment: Experiment) -> dict[str, Step]:
    return {step.name: step for step in make_plan(experiment.recipe)}


def trained(experiment: Experiment, stage: str) -> TrainSettings:
    settings = steps_of(experiment)[stage].settings
    assert isinstance(settings, TrainSettings)
    return settings


def test_a_left_out_subset_is_replaced_by_the_others(tmp_path: Path) -> None:
    found = varied(tmp_path, 'list.less.leave_out = ["extra"]')
    assert found.base == ["trained", "trained_twin_1", "trained_twin_2"]
    assert found.cells == [*found.base, "trained_without_extra"]
    less = trained(found, "trained_without_extra")
    assert [row.subset for row in less.data or ()] == ["main"]
    assert less.epochs == 10  # 60 pictures an epoch instead of 100, for 6 epochs
    assert [trained(found, name).seed for name in found.base] == [0, 1, 2]
    measured = steps_of(found)[found.evaluation].settings
    assert isinstance(measured, EvaluateSettings)
    assert measured.models == found.cells and measured.training == ("data",)


def test_a_count_is_distributed_in_proportion(tmp_path: Path) -> None:
    found = varied(tmp_path, "list.more.count = 60\nlist.uneven.count = { extra = 30 }")
    for stage, counts in (("more", (45, 15)), ("uneven", (30, 30))):
        data = trained(found, found.variants[stage == "uneven"].stages[0]).dataset
        plan = steps_of(found)[data].plan
        assert tuple(plan.counts.values()) == counts
    assert trained(found, "trained_count_60").epochs == 4


def test_held_out_pictures_are_replaced_by_the_others(tmp_path: Path) -> None:
    found = varied(tmp_path, 'list.heldout."curate.heldout" = 0.5')
    assert trained(found, found.variants[0].stages[0]).epochs == 12  # half of the pictures


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("list.a.count = 1000000", r"first\..*a: epochs = 1 — shows 2,500,000 .* the base's 600;"),
        (
            "list.a.repeats = { main = 1, extra = 40 }",
            r"first\..*a: epochs = 1 — shows 430 pictures",
        ),
    ],
)
def test_whole_epochs_that_show_other_numbers_of_pictures_are_refused(
    tmp_path: Path, lines: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        varied(tmp_path, lines)
    own = '\nlist.a."train.epochs" = 2'
    assert varied(tmp_path, lines + own).compared


def test_repeats_labels_and_settings_are_changed(tmp_path: Path) -> None:
    lines = """
[experiments.first.list]
repeated.repeats = { extra = 1 }
strict.labels = "strict"
strict_extra.labels = { extra = "strict" }
heldout."curate.heldout" = 0.2
rate."train.learning_rate" = { toon = 2e-3, anima = 2e-5 }
long."train.epochs" = 12
"""
    found = varied(tmp_path, lines)
    stages = {one.name: one.stages[0] for one in found.variants}
    repeated = trained(found, stages["repeated"])
    assert [row.repeats for row in repeated.data or ()] == [2, 1]
    for name, subsets in (("strict", ["main", "extra"]), ("strict_extra", ["extra"])):
        data = steps_of(found)[trained(found, stages[name]).dataset].settings
        assert isinstance(data, CurateSettings) and data.strict == subsets
    heldout = steps_of(found)[trained(found, stages["heldout"]).dataset].settings
    assert isinstance(heldout, CurateSettings) and heldout.heldout == 0.2
    assert trained(found, stages["rate"]).learning_rate == 2e-3
    assert trained(found, stages["long"]).epochs == 12
    assert set(found.shared["data"]) >= {*found.base, stages["rate"]}


def test_strict_labels_of_the_base_stay_strict(tmp_path: Path) -> None:
    base = RECIPE.replace(
        'do = "curate"\n[stages.data.', 'do = "curate"\nstrict = ["main"]\n[stages.data.'
    )
    lines = 'list.a.labels = { extra = "strict" }'
    found = experiment_of(read(tmp_path, base + lines), "first")
    data = steps_of(found)[trained(found, found.variants[0].stages[0]).dataset].settings
    assert isinstance(data, CurateSettings) and data.strict == ["main", "extra"]


def test_a_grid_is_every_combination_and_the_bases_own_point_is_the_base(tmp_path: Path) -> None:
    found = varied(tmp_path, 'grid = { "train.rank" = [4, 8], leave_out = [[], ["extra"]] }')
    assert {one.name: one.same_as for one in found.variants} == {
        "rank_4": None,
        "rank_8": "trained",
        "without_extra_rank_4": None,
        "without_extra_rank_8": None,
    }
    assert len(found.cells) == 3 + 3


def test_replicates_are_trained_with_other_seeds(tmp_path: Path) -> None:
    found = varied(tmp_path, "twins = 1\nreplicates = 3\nlist.small.train.rank = 4")
    stages = found.variants[0].stages
    assert len(stages) == 3 and len(found.cells) == 2 + 3
    assert [trained(found, stage).seed for stage in stages] == [0, 1, 2]


def test_a_merge_is_varied_without_twins(tmp_path: Path) -> None:
    recipe = read(tmp_path, RECIPE + "list.a.count = 20\n" + MERGES + 'list.t."merge.rank" = 4')
    found = experiment_of(recipe, "merges")
    assert found.cells == ["mixed", "mixed_rank_4"]
    assert steps_of(found)[found.evaluation].needs[:2] == found.cells


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", r"experiments\.first: 0 variants — add a variant"),
        ("list.a = {}", r"experiments\.first\.list: .*a changes nothing"),
        ('list.a.leaveout = ["extra"]', r"did you mean 'leave_out'"),
        ('list.a.leave_out = ["extr"]', r"first\.a\.leave_out: extr — subsets of trained: main"),
        ('list.a.leave_out = ["main", "extra"]', r"nothing is left to train"),
        ("list.a.repeats = { extr = 2 }", r"first\.a\.repeats: extr"),
        ("list.a.count = { extr = 2 }", r"first\.a\.count: extr — subsets that are trained on"),
        ("list.a.count = 1", r"leaves no picture to"),
        ('list.a.labels = { extr = "strict" }', r"first\.a\.labels: extr"),
        ('list.a.labels = "lax"', r"experiments\.first\.list\.a\.labels"),
        ("list.a.train.rnk = 4", r"experiments\.first\.a\.train\.rnk: 4 .*'rank'"),
        ('list.a."curate.heldout" = 3', r"experiments\.first\.a\.curate\.heldout: 3"),
        ('list.a."evaluate.seeds" = 3', r"write curate\., train\. or merge\."),
        ('list.a."train.rank" = 3\nlist.a.train.rank = 4', r"train is set twice"),
        ("list.a.train.data = []\nlist.a.count = 4", r"train\.data .*its only change"),
        ('list.a."merge.rank" = 3', r"name a merge stage as base"),
        ('grid."train.rank" = 4', r"needs a list of values"),
        ('grid."train.rank" = [4, 4]', r"stands in it twice"),
        (f'grid."train.rank" = {list(range(1, 202))}', r"201 variants — at most 200"),
        ('questions = ["colour"]\nlist.a.count = 20', r"first\.questions.*colour"),
        ('like = "nope"\nlist.a.count = 20', r"first\.like: nope — .*measured"),
        ("twins = -1\nlist.a.count = 20", r"experiments\.first\.twins: -1"),
        ('grid."train.rank" = [8]', r"every variant is the same as trained"),
        ("list.a.count = 4\nlist.a.curate.subsets = {}", r"count sets curate\.subsets too"),
        ('list.a.labels = "strict"\nlist.a.curate.strict = []', r"labels sets curate\.strict too"),
        (
            f'replicates = 100\ngrid."train.rank" = {list(range(20, 31))}',
            r"experiments\.first: 1109 stages — at most 1000.* 11 variants × replicates = 100",
        ),
        ("list.a.count = true", r"experiments\.first\.list\.a\.count"),
    ],
)
def test_a_wrong_variant_is_refused_before_any_work(tmp_path: Path, lines: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        varied(tmp_path, lines)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rank_4", "experiments: rank_4 — trained_rank_4, its evaluation, is another stage"),
        ("twin_1", "experiments: twin_1 — trained_twin_1, its evaluation, is another stage"),
        ("influence", "experiments: influence — is what `onmodel influence` makes"),
    ],
)
def test_a_name_that_is_taken_is_refused(tmp_path: Path, name: str, said: str) -> None:
    text = RECIPE.replace("[experiments.first]", f"[experiments.{name}]")
    with pytest.raises(InputError, match=said):
        experiment_of(read(tmp_path, text + "list.a.train.rank = 4"), name)


def test_no_more_pictures_than_a_folder_has(tmp_path: Path) -> None:
    recipe = read(
        tmp_path,
        RECIPE.replace('{ toon = "backgwa_additional", count = 10 }', '{ folder = "none" }')
        + "list.a.count = { extra = 21 }",
    )
    with pytest.raises(InputError, match=r"first\.a\.count: 21 — the sources have 20 pictures"):
        experiment_of(recipe, "first")


def test_merges_have_no_twins_and_no_data(tmp_path: Path) -> None:
    for lines, said in (
        ("twins = 1\nlist.t.merge.rank = 4", "a merge draws no noise"),
        ("replicates = 2\nlist.t.merge.rank = 4", "a merge draws no noise"),
        ("list.t.count = 4", "is no change of a merge"),
    ):
        recipe = read(tmp_path, RECIPE + "list.a.count = 20\n" + MERGES + lines)
        with pytest.raises(InputError, match=said):
            experiment_of(recipe, "merges")


def test_influence_is_the_experiment_that_leaves_out_each_subset() -> None:
    found = influence_of(load_recipe(RELEASE_2), "release_2", None, twins=2, seeds=1)
    steps = steps_of(found)
    whole = steps["release_2"].plan
    subsets = ["backgwa_base", "backgwa_alignment", "backgwa_additional", "others"]
    assert [one.change.leave_out for one in found.variants] == [(name,) for name in subsets]
    for one in found.variants:
        plan = steps[one.stages[0]].plan
        assert set(plan.exposures) == set(whole.exposures) - set(one.change.leave_out)
        assert plan.steps == pytest.approx(whole.steps, rel=0.04) and plan.models == 1
    measured = steps[found.evaluation].settings
    assert isinstance(measured, EvaluateSettings)
    assert (measured.seeds, measured.suite) == (1, "thorough")


def test_influence_leaves_out_each_of_two_subsets_of_nearly_one_name(tmp_path: Path) -> None:
    text = RECIPE.replace("extra = [", '"ma in" = [').replace('"extra"', '"ma in"')
    text = text.replace("main = [", "ma_in = [").replace('"main"', '"ma_in"')
    recipe = read(tmp_path, text + "list.a.count = 20")
    found = influence_of(recipe, "trained", None, twins=1, seeds=1)
    left_out = [one.change.leave_out for one in found.variants]
    assert left_out == [("ma_in",), ("ma in",)]
    assert len(set(found.cells)) == 4


@pytest.mark.parametrize(
    ("training", "like", "twins", "said"),
    [
        ("five", None, 1, "five"),
        ("preview", None, 1, "one subset"),
        ("release_2", "nope", 1, "nope"),
        ("release_2", None, 0, "twins: 0 — train 1 to 100"),
        ("release_2", None, 101, "twins: 101 — train 1 to 100"),
    ],
)
def test_what_cannot_be_left_out_is_refused(
    training: str, like: str | None, twins: int, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        influence_of(load_recipe(RELEASE_2), training, like, twins, None)


def test_the_shipped_experiments_take_an_hour_at_most() -> None:
    found = experiment_of(load_recipe(RECIPES / "experiments.toml"), "second")
    assert len(found.compared) == 6
    assert sum(step.seconds or 0 for step in make_plan(found.recipe)) < 3600


def test_what_two_experiments_share_is_made_once(workplace: Workplace) -> None:
    text = workplace.recipe.read_text().replace('heldout_subsets = ["fine"]', "")
    text = text.replace('references = { stage = "data", subset = "fine" }', "")
    tables = """
[experiments.one]
base = "first"
twins = 1
list.less.leave_out = ["fine"]
[experiments.two]
base = "first"
twins = 1
list.without.leave_out = ["fine"]
list.small.train.rank = 4
"""
    workplace.recipe.write_text(text + tables)
    recipe = load_recipe(workplace.recipe)
    ran = []
    for name in ("one", "two", "two"):
        experiment = experiment_of(recipe, name)
        workplace.ran.clear()
        with workplace.project.writing():
            local.run(experiment.recipe, workplace.project, Events(), until=experiment.evaluation)
        ran.append(list(workplace.ran))
    assert ran == [
        ["data", "first", "first_without_fine", "first_twin_1", "first_one"],
        ["first_rank_4", "first_two"],
        [],
    ]


def test_stop_early_asks_the_first_half_of_the_prompts_of_all(tmp_path: Path) -> None:
    variants = 'stop_early = true\nlist.a.leave_out = ["extra"]\nlist.b."train.rank" = 4\n'
    found = varied(tmp_path, variants + 'list.c."train.rank" = 2\n')
    steps = steps_of(found)
    assert found.first == "trained_first_first"
    first, whole = steps[found.first].settings, steps[found.evaluation].settings
    assert isinstance(first, EvaluateSettings) and isinstance(whole, EvaluateSettings)
    assert first.prompts == 6 and first.models == whole.models == found.cells
    assert whole.stop_early is not None and whole.stop_early.kept == 2
    pictures = steps[found.evaluation].plan.pictures
    assert steps[found.first].plan.pictures == 6 * 2 * (3 + 2 * 6)
    assert pictures == 6 * 2 * (3 + 2 * 5)


def test_one_variant_cannot_be_stopped_early(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"experiments.first.stop_early.*none can be stopped"):
        varied(tmp_path, 'stop_early = true\nlist.a."train.rank" = 4\n')


def test_more_prompts_than_the_suite_has_are_refused(tmp_path: Path) -> None:
    text = RECIPE.replace('models = ["trained"]', 'models = ["trained"]\nprompts = 13')
    with pytest.raises(InputError, match=r"measured.prompts.*13.*has 12"):
        make_plan(read(tmp_path, text + 'list.a."train.rank" = 4\n'))
