"""Repeats of the subsets of a training: what an epoch shows with them, and writing them into the
recipe. A change is a step of the data set's journal, so undo and redo write the recipe too."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from onmodel.curate.balance import balance, even_targets
from onmodel.curate.workshop import Decision
from onmodel.dataset.rules import MOST_REPEATS
from onmodel.engine.draft import save_recipe, with_repeats
from onmodel.engine.plan import Step
from onmodel.errors import InputError
from onmodel.stages import curate, train
from onmodel.studio.datasets import OpenDataset, opened_dataset
from onmodel.studio.plans import planned
from onmodel.studio.render import character_of, fragment
from onmodel.studio.training_set import subset_in
from onmodel.studio.workspace import CharacterFolder

PREFIX = "repeats."  # of the form's fields
SLIDER = 20  # repeats that a slider reaches at least


@dataclass(frozen=True)
class SubsetPlan:
    """A subset of a training. `pictures` that are trained on, as far as the split is known;
    `exposures` of a whole run and their `share` (0–1). `own`: its pictures are those of the data
    set, by its subsets, so its repeats can be set here."""

    name: str
    pictures: int
    repeats: int
    exposures: int
    share: float
    own: tuple[str, ...]

    @property
    def most(self) -> int:
        """The right end of its slider."""
        return min(MOST_REPEATS, max(SLIDER, 2 * self.repeats))


@dataclass(frozen=True)
class RepeatsPlan:
    """A train stage with its subsets, the steps and exposures of its run. `split_known`: held-out
    pictures are left out of the numbers."""

    stage: str
    stages: Sequence[str]
    subsets: Sequence[SubsetPlan]
    epochs: int
    per_epoch: int
    exposures: int
    steps: int
    split_known: bool


def plan(opened: OpenDataset, stage: str, repeats: Mapping[str, int]) -> RepeatsPlan:
    """The plan of a train stage ("" for the first) with other repeats: subset → number. Raises
    InputError for a recipe without one, and for what it does not have."""
    steps = _steps(opened.character)
    stages = [step.name for step in steps if isinstance(step.settings, train.Settings)]
    if not stages:
        raise InputError("recipe", opened.character.name, "has no train stage")
    stage = stage or stages[0]
    step = next((step for step in steps if step.name == stage), None)
    if step is None or not isinstance(settings := step.settings, train.Settings):
        raise InputError("stage", stage, f"is no train stage; there are {', '.join(stages)}")
    known = {step.name: step.plan for step in steps}
    rows = []
    split = opened.split
    for subset in settings.subsets(known):
        source = subset.stage or settings.dataset
        own = _own(opened.character, steps, source, subset.subset) if not subset.stage else ()
        pictures = _pictures(opened, own) if own else known[source].counts[subset.subset]
        number = repeats.get(subset.label, subset.repeats)
        if not 1 <= number <= MOST_REPEATS:
            raise InputError(subset.label, number, f"repeats are 1 to {MOST_REPEATS}")
        shown = pictures * number * len(subset.resolutions)
        rows.append((subset.label, pictures, number, shown, own))
    per_epoch = sum(row[3] for row in rows)
    return RepeatsPlan(
        stage,
        stages,
        [
            SubsetPlan(name, n, number, shown * settings.epochs, shown / max(1, per_epoch), own)
            for name, n, number, shown, own in rows
        ],
        settings.epochs,
        per_epoch,
        per_epoch * settings.epochs,
        train.steps_for(per_epoch, settings),
        not split.unknown,
    )


def even_repeats(opened: OpenDataset, plan: RepeatsPlan) -> dict[str, int]:
    """Repeats of the plan's own subsets that bring the values of free attributes near equal shares;
    none where there is a single subset."""
    own = {name: row.name for row in plan.subsets for name in row.own}
    if len(own) < 2:
        return {}
    kept = [opened.shown.counted[piece.name] for piece in opened.workshop.kept]
    counted = [row for row in kept if row.subset in own]
    vocabulary = opened.shown.vocabulary
    targets = even_targets(counted, vocabulary, opened.shown.free)
    found = balance(counted, vocabulary, targets, opened.workshop.repeats).repeats
    return {own[name]: number for name, number in found.items()}


def set_repeats(opened: OpenDataset, stage: str, repeats: Mapping[str, int]) -> None:
    """Write repeats into the recipe, as one step of the journal. Nothing happens when they are
    those of the recipe. Raises InputError as plan() and with_repeats() do."""
    before, after = plan(opened, stage, {}), plan(opened, stage, repeats)
    decisions = []
    for old, new in zip(before.subsets, after.subsets, strict=True):
        for subset in old.own if old.repeats != new.repeats else ():
            row = Decision(0, "repeats", "person", subset=subset, repeats=new.repeats)
            decisions.append(replace(row, stage=after.stage, before=old.repeats))
    if decisions:
        _write(opened.character, after.stage, {row.name: row.repeats for row in after.subsets})
        opened.workshop.decide(decisions)


def follow(opened: OpenDataset, step: int, back: bool) -> None:
    """Write the repeats of a step of the journal into the recipe after it was taken back, or done
    again. What the recipe does not have any more is left out."""
    rows = [row for row in opened.workshop.journal if row.step == step and row.stage]
    numbers = {row.subset: row.before if back else row.repeats for row in rows}
    for stage in dict.fromkeys(row.stage for row in rows):
        try:
            now = plan(opened, stage, {})
        except InputError:
            continue
        found = {row.name: _number(row, numbers) for row in now.subsets}
        _write(opened.character, stage, found)


def _number(row: SubsetPlan, numbers: Mapping[str, int]) -> int:
    return next((numbers[name] for name in row.own if name in numbers), row.repeats)


def _write(character: CharacterFolder, stage: str, repeats: Mapping[str, int]) -> None:
    assert character.recipe is not None
    text = character.recipe.read_text(encoding="utf-8")
    save_recipe(with_repeats(text, stage, repeats), character.recipe)


def _steps(character: CharacterFolder) -> Sequence[Step]:
    if character.recipe is None:
        raise InputError("recipe", character.name, "its recipe is not in this workspace")
    return planned(character.recipe)


def _own(
    character: CharacterFolder, steps: Iterable[Step], stage: str, subset: str
) -> tuple[str, ...]:
    """The subsets of the data set that a subset of a curate stage takes; () when it takes other
    pictures too."""
    settings = next(step.settings for step in steps if step.name == stage)
    if not isinstance(settings, curate.Settings):
        return ()
    found = []
    for source in settings.sources[subset]:
        own = subset_in(character, str(source.folder)) if source.folder else None
        if own is None or source.count is not None:
            return ()
        found.append(own)
    return tuple(found)


def _pictures(opened: OpenDataset, subsets: Sequence[str]) -> int:
    """Kept pictures that are trained on."""
    split = opened.split.split
    held = Counter(
        piece.subset for piece in opened.workshop.kept if split.get(piece.name) == "heldout"
    )
    kept = Counter(piece.subset for piece in opened.workshop.kept)
    return sum(kept[name] - held[name] for name in subsets)


def show(request: Request) -> Response:
    """The sliders, and the numbers of the recipe: query field `stage`."""
    return _planner(request, request.query_params.get("stage", ""))


def numbers(request: Request) -> Response:
    """The numbers with the repeats of the query fields `repeats.SUBSET`."""
    stage, repeats = _fields(request.query_params.multi_items())
    found = plan(opened_dataset(request), stage, repeats)
    return fragment(request, "plan_numbers.html.j2", character=character_of(request), plan=found)


async def apply(request: Request) -> Response:
    """Write the repeats of the form fields `repeats.SUBSET` into the recipe."""
    form = await request.form()
    stage, repeats = _fields([(key, str(value)) for key, value in form.multi_items()])
    await run_in_threadpool(set_repeats, opened_dataset(request), stage, repeats)
    answer = await run_in_threadpool(_planner, request, stage)
    answer.headers["HX-Trigger"] = "dataset-changed"
    return answer


def _fields(fields: Iterable[tuple[str, str]]) -> tuple[str, dict[str, int]]:
    """The stage and the repeats of a form."""
    stage, repeats = "", {}
    for key, value in fields:
        if key == "stage":
            stage = value
        elif key.startswith(PREFIX):
            if not (value.isascii() and value.isdecimal()):
                raise InputError(key.removeprefix(PREFIX), value, "repeats are whole numbers")
            repeats[key.removeprefix(PREFIX)] = int(value)
    return stage, repeats


def _planner(request: Request, stage: str) -> Response:
    opened = opened_dataset(request)
    found = plan(opened, stage, {})
    values = {"plan": found, "even": even_repeats(opened, found)}
    return fragment(request, "planner.html.j2", character=character_of(request), **values)


ROUTES = (
    Route("/c/{character}/data/planner", show),
    Route("/c/{character}/data/planner", apply, methods=["POST"]),
    Route("/c/{character}/data/planner/numbers", numbers),
)
