"""Experiments: variants of a training or a merge as stages of a recipe.

Every variant is trained and measured; no estimate stands in for that. Where a variant changes the
data, it is shown as many pictures as the base, so that a left-out subset's place is taken by the
others. Leaving out every subset in turn is one of these experiments (`influence`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from onmodel.engine.plan import Step, make_plan
from onmodel.errors import InputError
from onmodel.experiment import (
    INFLUENCE,
    MOST_TRAININGS,
    TWINS,
    ExperimentSettings,
    VariantChange,
    name_part,
)
from onmodel.hashing import hash_json
from onmodel.recipe import MOST_STAGES, Recipe
from onmodel.stages.base import Plan
from onmodel.stages.curate import PictureSource
from onmodel.stages.curate import Settings as CurateSettings
from onmodel.stages.curate import expected as expected_pictures
from onmodel.stages.evaluate import Settings as EvaluateSettings
from onmodel.stages.train import Settings as TrainSettings

KEPT = ("keep_every", "keep_last", "keep_best")  # which checkpoints stay changes none of them
ROUNDING = 0.1  # of the pictures shown, by which a variant may differ from the base
# What an evaluation need not ask for an experiment.
NOT_ASKED: Mapping[str, Any] = {
    "triggers": {},
    "against": [],
    "floors": False,
    "negatives": False,
}

Table = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """A variant and its stages, one for each replicate. `same_as`: the base or the earlier variant
    whose settings are the same; it has no stages of its own then."""

    name: str
    change: VariantChange
    stages: Sequence[str]
    same_as: str | None = None


@dataclass(frozen=True)
class Experiment:
    """A recipe with the cells of an experiment. `base`: the base stage and its twins;
    `evaluation`: the stage that measures all; `first`: the one that measures all on the first
    prompts, where variants are stopped early; `shared`: data set → the cells trained on it, where
    several are."""

    name: str
    recipe: Recipe
    base: Sequence[str]
    variants: Sequence[Variant]
    evaluation: str
    shared: Mapping[str, Sequence[str]]
    first: str | None = None

    @property
    def compared(self) -> list[Variant]:
        """The variants that are another than the base and than each other."""
        return [variant for variant in self.variants if variant.same_as is None]

    @property
    def cells(self) -> list[str]:
        """The stages that are measured."""
        return [*self.base, *(stage for one in self.compared for stage in one.stages)]


def experiment_of(recipe: Recipe, name: str) -> Experiment:
    """The experiment of that name with its stages. Raises InputError where it is wrong or not
    there."""
    if name not in recipe.experiments:
        there = ", ".join(recipe.experiments)
        remedy = f"the recipe has {there}" if there else "add a table, e.g. [experiments.first]"
        raise InputError("experiment", name, remedy)
    return expand(recipe, name, recipe.experiments[name])


def influence_of(
    recipe: Recipe, training: str, like: str | None, twins: int, seeds: int | None
) -> Experiment:
    """The experiment that leaves out each subset of a training in turn. Raises InputError for
    stages that are not there, a training of one subset, no twin, or too many."""
    if not 1 <= twins <= MOST_TRAININGS:
        remedy = f"train 1 to {MOST_TRAININGS}, to estimate how trainings differ"
        raise InputError("twins", twins, remedy)
    _named_stage(recipe, ("train",), training, "training")
    subsets = list(_trained(training, {step.name: step for step in make_plan(recipe)}))
    if len(subsets) < 2:
        raise InputError(
            "training", training, f"has one subset, {subsets[0]}: without it nothing is left"
        )
    changes = {f"without_{name}": VariantChange(leave_out=(name,)) for name in subsets}
    settings = ExperimentSettings(base=training, like=like, seeds=seeds, twins=twins)
    return expand(recipe, INFLUENCE, settings.model_copy(update={"list": changes}))


def expand(recipe: Recipe, name: str, settings: ExperimentSettings) -> Experiment:
    """The recipe with a stage for every cell of an experiment and the evaluation of all. Raises
    InputError for what cannot be varied, naming the variant."""
    place = f"experiments.{name}"
    _named_stage(recipe, ("train", "merge"), settings.base, f"{place}.base")
    like = _named_stage(recipe, ("evaluate",), settings.like, f"{place}.like")
    steps = {step.name: step for step in make_plan(recipe)}
    cells = _Cells(recipe, steps, settings.base, place)
    wanted = {one: cells.variant(one, change) for one, change in settings.list.items()}
    cells.spend_the_same(settings.list, wanted)
    planned = cells.planned()
    same = _same_cells(settings.base, wanted, planned)
    twins = _repetitions(settings, steps[settings.base].verb, place)
    base = [settings.base, *cells.repeat(settings.base, twins, planned)]
    variants = []
    for one, stage in wanted.items():
        more = settings.replicates - 1
        stages = [] if one in same else [stage, *cells.repeat(stage, more, planned)]
        variants.append(Variant(one, settings.list[one], stages, same.get(one)))
    found = Experiment(name, recipe, base, variants, f"{settings.base}_{name}", {})
    if not found.compared:
        raise InputError(place, "no variant", f"every variant is the same as {settings.base}")
    count = len(recipe.stages) + len(cells.made) + 1 + settings.stop_early
    if count > MOST_STAGES:
        work = f"{len(found.compared)} variants × replicates = {settings.replicates}"
        remedy = f"at most {MOST_STAGES}, with the recipe's own; {work} are too many, lower one"
        raise InputError(place, f"{count} stages", remedy)
    table = cells.measuring(like, found.cells, settings)
    if settings.stop_early:
        first = f"{found.evaluation}_first"
        looked = _first_look(table, found, steps[like], place)
        cells.measure(first, looked, name)
        early = {"stage": first, "prompts": looked["prompts"], "base": list(base)}
        early["variants"] = [list(one.stages) for one in found.compared]
        found, table = replace(found, first=first), {**table, "stop_early": early}
    cells.measure(found.evaluation, table, name)
    kept = {one: row for one, row in cells.made.items() if one in _read(cells.made, found)}
    whole = replace(recipe, stages={**recipe.stages, **kept})
    cells.made = kept
    shared = _shared(found.cells, cells.planned())
    return replace(found, recipe=whole, shared=shared)


@dataclass
class _Cells:
    """The stages that an experiment adds to a recipe. `made`: name → table; `origin`: name → where
    the recipe asks for it."""

    recipe: Recipe
    steps: Mapping[str, Step]
    base: str
    place: str
    made: dict[str, Table] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)

    @property
    def plans(self) -> dict[str, Plan]:
        return {name: step.plan for name, step in self.steps.items()}

    def planned(self) -> dict[str, Step]:
        """The steps of the recipe with what was added. An error names the variant."""
        recipe = replace(self.recipe, stages={**self.recipe.stages, **self.made})
        try:
            return {step.name: step for step in make_plan(recipe)}
        except InputError as error:
            # names of variants may have dots, e.g. that of a learning rate
            told = error.field.removeprefix("stages.")
            stage = max(
                (one for one in self.origin if told.startswith(f"{one}.")), key=len, default=""
            )
            if not stage:
                raise
            setting = told.removeprefix(f"{stage}.")
            verb = self.made[stage]["do"]
            inner = setting if verb == "evaluate" else f"{verb}.{setting}"
            raise InputError(f"{self.origin[stage]}.{inner}", error.value, error.remedy) from error

    def add(self, name: str, table: Table, origin: str) -> str:
        """Add a stage and return its name: that of a stage with the same settings, or one that is
        free."""
        while (there := {**self.recipe.stages, **self.made}.get(name)) not in (None, table):
            name = f"{name}_{hash_json(table)[:6]}"
        if there is None:
            self.made[name] = table
            self.origin[name] = origin
        return name

    def variant(self, name: str, change: VariantChange) -> str:
        """Add the stages of a variant; the name of the last one."""
        table, origin = self.recipe.stages[self.base], f"{self.place}.{name}"
        cell = f"{self.base}_{name_part(change.label, name)}"
        if table["do"] == "merge":
            given = change.model_dump(exclude_defaults=True).keys() - {"merge"}
            if given:
                remedy = "is no change of a merge; name a train stage as base, or use merge.…"
                raise InputError(f"{origin}.{min(given)}", self.base, remedy)
            return self.add(cell, {**table, **change.merge}, origin)
        if change.merge:
            remedy = "base is a train stage; name a merge stage as base"
            raise InputError(f"{origin}.merge", self.base, remedy)
        rows = self._rows(change, origin)
        kept = {key: value for key, value in table.items() if key not in KEPT}
        kept |= {"data": rows, **change.train}
        if change.changes_data_set:
            part = name_part(change.data_label, name)
            kept = self._on_another_data_set(kept, change, part, origin)
        elif not change.changes_data and "data" not in table:
            del kept["data"]
        settings = self.steps[self.base].settings
        assert isinstance(settings, TrainSettings)
        kept["keep_every"] = kept.get("epochs", settings.epochs)
        return self.add(cell, kept, origin)

    def _rows(self, change: VariantChange, origin: str) -> list[Table]:
        """The rows of `data` without what is left out, with the repeats of the change."""
        subsets = list(_trained(self.base, self.steps))
        for key in ("leave_out", "repeats"):
            for one in getattr(change, key):
                if one not in subsets:
                    remedy = f"subsets of {self.base}: {', '.join(subsets)}"
                    raise InputError(f"{origin}.{key}", one, remedy)
        table = self.recipe.stages[self.base]
        said = table.get("data") or [{"subset": subset} for subset in subsets]
        rows = [
            {**row, "repeats": change.repeats[label]} if label in change.repeats else row
            for label, row in zip(subsets, said, strict=True)
            if label not in change.leave_out
        ]
        if not rows:
            raise InputError(f"{origin}.leave_out", ", ".join(subsets), "nothing is left to train")
        return rows

    def _on_another_data_set(
        self, table: Table, change: VariantChange, part: str, origin: str
    ) -> Table:
        """The training's table on data sets with the change; adds them, `part` in their names."""
        trained = [(row.get("stage") or table["dataset"], row["subset"]) for row in table["data"]]
        for subset in change.labels if isinstance(change.labels, dict) else ():
            if subset not in (there := [name for _, name in trained]):
                remedy = f"subsets that are trained on: {', '.join(there)}"
                raise InputError(f"{origin}.labels", subset, remedy)
        counts = _counts(trained, change, self.plans, self.steps, origin)
        names = {}
        for stage in dict.fromkeys(stage for stage, _ in trained):
            own = [subset for of, subset in trained if of == stage]
            new: Table = {**self.recipe.stages[stage], **change.curate}
            strict = change.labels if isinstance(change.labels, dict) else own
            if change.labels and set(own) & set(strict):
                before = new.get("strict", [])
                more = [subset for subset in own if subset in strict and subset not in before]
                new["strict"] = [*before, *more]
            if stage in counts:
                new["subsets"] = {**new.get("subsets", {}), **counts[stage]}
            unchanged = new == self.recipe.stages[stage]
            names[stage] = stage if unchanged else self.add(f"{stage}_{part}", new, origin)
        rows = [
            {**row, "stage": names[row["stage"]]} if row.get("stage") else row
            for row in table["data"]
        ]
        return {**table, "data": rows, "dataset": names.get(table["dataset"], table["dataset"])}

    def spend_the_same(
        self, changes: Mapping[str, VariantChange], wanted: Mapping[str, str]
    ) -> None:
        """Set the epochs of every variant with other data so that it is shown as many pictures as
        the base. A variant that sets its epochs keeps them. Raises InputError where whole epochs
        miss that by more than `ROUNDING`."""
        planned = self.planned()
        for name, stage in wanted.items():
            change = changes[name]
            if not change.changes_data or "epochs" in change.train:
                continue
            base, own = planned[self.base].settings, planned[stage].settings
            assert isinstance(base, TrainSettings) and isinstance(own, TrainSettings)
            due, by_epoch = base.epochs * _shown(base, planned), _shown(own, planned)
            epochs = max(1, round(due / by_epoch))
            shown = epochs * by_epoch
            if abs(shown - due) > ROUNDING * due:
                remedy = (
                    f"shows {shown:,.0f} pictures instead of the base's {due:,.0f}; raise the"
                    ' base\'s epochs, or set "train.epochs" of the variant'
                )
                raise InputError(f"{self.place}.{name}", f"epochs = {epochs}", remedy)
            self.made[stage] |= {"epochs": epochs, "keep_every": epochs}

    def repeat(self, stage: str, times: int, planned: Mapping[str, Step]) -> list[str]:
        """Add further trainings of a stage with other seeds; their names."""
        table = {**self.recipe.stages, **self.made}[stage]
        kept = {key: value for key, value in table.items() if key not in KEPT}
        settings, found = planned[stage].settings, []
        for number in range(1, times + 1):
            assert isinstance(settings, TrainSettings)
            seeded = {"seed": settings.seed + number, "keep_every": settings.epochs}
            origin = self.origin.get(stage, self.place)
            found.append(self.add(f"{stage}_twin_{number}", {**kept, **seeded}, origin))
        return found

    def measure(self, stage: str, table: Table, experiment: str) -> None:
        """Add an evaluation under its own name, which must be free."""
        if stage in {**self.recipe.stages, **self.made}:
            remedy = f"{stage}, its evaluation, is another stage; rename the experiment"
            raise InputError("experiments", experiment, remedy)
        self.made[stage] = table
        self.origin[stage] = self.place

    def measuring(self, like: str, cells: Sequence[str], settings: ExperimentSettings) -> Table:
        """The table of the evaluation of all cells, as the stage `like` measures."""
        table = {**self.recipe.stages[like], "models": list(cells), **NOT_ASKED}
        if settings.questions:
            table["questions"] = list(settings.questions)
        if settings.seeds is not None:
            table["seeds"] = settings.seeds
        if table.get("training"):  # copies are searched in what the cells were trained on
            planned = self.planned()
            table["training"] = sorted({one for cell in cells for one in _data_sets(cell, planned)})
        return table


def _first_look(table: Table, found: Experiment, like: Step, place: str) -> Table:
    """The table of an evaluation on the first half of the prompts. Raises InputError where there is
    nothing to stop."""
    if len(found.compared) < 2:
        remedy = "has one variant, so none can be stopped; delete stop_early, or add a variant"
        raise InputError(f"{place}.stop_early", "true", remedy)
    settings = like.settings
    assert isinstance(settings, EvaluateSettings)
    return {**table, "prompts": -(-settings.asked // 2)}


def _named_stage(recipe: Recipe, verbs: Sequence[str], name: str | None, field: str) -> str:
    """The recipe's stage of one of these verbs: the named one, or the last."""
    there = [
        stage
        for stage, table in recipe.stages.items()
        if table["do"] in verbs and "more_of" not in table
    ]
    if not there or name not in (None, *there):
        kinds = " or ".join(verbs)
        remedy = f"name a stage that does {kinds}: {', '.join(there)}"
        raise InputError(
            field, name or "none", remedy if there else f"add a stage that does {kinds}"
        )
    return name or there[-1]


def _trained(training: str, steps: Mapping[str, Step]) -> dict[str, str]:
    """Label of each subset of a training → its data set."""
    settings = steps[training].settings
    assert isinstance(settings, TrainSettings)
    plans = {name: step.plan for name, step in steps.items()}
    return {one.label: one.stage or settings.dataset for one in settings.subsets(plans)}


def _shown(settings: TrainSettings, steps: Mapping[str, Step]) -> float:
    """How many pictures an epoch shows, without those that are held out."""
    shown = 0.0
    for subset in settings.subsets({name: step.plan for name, step in steps.items()}):
        step = steps[subset.stage or settings.dataset]
        assert isinstance(step.settings, CurateSettings)
        share = 1 - step.settings.share_heldout(subset.subset)
        shown += step.plan.counts[subset.subset] * share * subset.exposures
    return shown


def _counts(
    trained: Sequence[tuple[str, str]],
    change: VariantChange,
    plans: Mapping[str, Plan],
    steps: Mapping[str, Step],
    origin: str,
) -> dict[str, dict[str, list[Table]]]:
    """Data set → subset → its sources with the counts of a change; subsets that keep theirs are
    left out. Raises InputError for more pictures than there are."""
    if change.count is None:
        return {}
    places = []  # data set, subset, source
    for stage, subset in trained:
        settings = steps[stage].settings
        assert isinstance(settings, CurateSettings)
        if subset not in settings.subsets:
            remedy = "comes from another trainer's file; name its folder in [subsets] to count it"
            raise InputError(f"{origin}.count", subset, remedy)
        places += [(stage, subset, source) for source in settings.subsets[subset]]
    groups: dict[str, int] = {"": change.count} if isinstance(change.count, int) else change.count
    found: dict[str, dict[str, list[Table]]] = {}
    for named, total in groups.items():
        own = [place for place in places if named in ("", place[1])]
        if not own:
            there = ", ".join(dict.fromkeys(subset for _, subset, _ in places))
            raise InputError(f"{origin}.count", named, f"subsets that are trained on: {there}")
        sources = [source for _, _, source in own]
        numbers = _apportioned(total, sources, plans, f"{origin}.count")
        for (stage, subset, source), number in zip(own, numbers, strict=True):
            rows = found.setdefault(stage, {}).setdefault(subset, [])
            if number:
                row = source.model_dump(mode="json", exclude_defaults=True)
                rows.append({**row, "count": number})
    for stage, tables in found.items():
        for subset, rows in tables.items():
            if not rows:
                remedy = f"leaves no picture to {subset} of {stage}; ask for more, or leave it out"
                raise InputError(f"{origin}.count", change.count, remedy)
    return found


def _apportioned(
    total: int, sources: Sequence[PictureSource], plans: Mapping[str, Plan], field: str
) -> list[int]:
    """`total` pictures over sources in proportion to what they give now, by largest remainder. A
    toon set can be drawn at any size; another source has no more than it has."""
    now = [expected_pictures(source, plans) for source in sources]
    room = [
        total
        if source.toon
        else expected_pictures(source.model_copy(update={"count": None}), plans)
        for source in sources
    ]
    if sum(room) < total:
        raise InputError(field, total, f"the sources have {sum(room)} pictures")
    exact = [total * number / sum(now) for number in now]
    found = [min(int(share), most) for share, most in zip(exact, room, strict=True)]
    while sum(found) < total:
        free = [i for i, most in enumerate(room) if found[i] < most]
        found[max(free, key=lambda i: exact[i] - found[i])] += 1
    return found


def _repetitions(settings: ExperimentSettings, verb: str, place: str) -> int:
    """The number of twins. Raises InputError for repeated merges, which are all the same."""
    if verb == "train":
        return TWINS if settings.twins is None else settings.twins
    for name, number in (("twins", settings.twins), ("replicates", settings.replicates - 1)):
        if number:
            remedy = "a merge draws no noise, so a second one is the same; delete it"
            raise InputError(f"{place}.{name}", getattr(settings, name), remedy)
    return 0


def _same_cells(
    base: str, wanted: Mapping[str, str], planned: Mapping[str, Step]
) -> dict[str, str]:
    """Variant → the base or the earlier variant that has the same settings, for those that are no
    other."""
    found: dict[str, str] = {}
    seen = {_told(planned[base]): base}
    for name, stage in wanted.items():
        other = seen.setdefault(_told(planned[stage]), name)
        if other != name:
            found[name] = other
    return found


def _told(step: Step) -> str:
    """The settings of a stage, without those that only say which checkpoints stay."""
    return hash_json(
        {key: value for key, value in step.settings.keyed().items() if key not in KEPT}
    )


def _data_sets(cell: str, planned: Mapping[str, Step]) -> list[str]:
    """The data sets that a cell was trained on, through starts and merges."""
    settings, found = planned[cell].settings, []
    if isinstance(settings, TrainSettings):
        found += settings.datasets
    for need in planned[cell].needs:
        if planned[need].verb in ("train", "merge"):
            found += _data_sets(need, planned)
    return found


def _read(made: Mapping[str, Table], found: Experiment) -> set[str]:
    """The added stages that the evaluation reads; a variant that is the same as another needs
    none."""
    wanted = {found.evaluation, *found.cells} | ({found.first} if found.first else set())
    for cell in found.cells:
        table = made.get(cell, {})
        wanted |= {
            str(table.get("dataset")),
            *(str(row.get("stage")) for row in table.get("data", ())),
        }
    return wanted


def _shared(cells: Sequence[str], planned: Mapping[str, Step]) -> dict[str, list[str]]:
    """Stage → the cells that read it, where several do."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        for need in planned[cell].needs:
            found.setdefault(need, []).append(cell)
    return {stage: readers for stage, readers in found.items() if len(readers) > 1}
