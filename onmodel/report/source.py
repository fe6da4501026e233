"""What a report is made from, and the plain readings of it: axes, models, roles. It reads no clock
and no network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from onmodel.character import Character
from onmodel.evaluate.choice import Choice, SearchRecord
from onmodel.evaluate.compare import Comparison, Pairs, decide_pairs, rivals, undecided_pairs
from onmodel.evaluate.evaluation import EvaluatedModel, Evaluation
from onmodel.ledger.lineage import Lineage
from onmodel.train.steps import StepRow


class SubsetUse(TypedDict, total=False):
    """The settings of a subset's own file; the others are not shown."""

    repeats: int


class ManifestSubset(TypedDict):
    """A subset in manifest.json."""

    purpose: str
    count: int
    heldout: int
    shown: NotRequired[SubsetUse]


class ManifestItem(TypedDict):
    """A picture in manifest.json, as far as a report shows it."""

    subset: str
    split: str
    origin: str
    image: str
    tags: str


class Manifest(TypedDict):
    """The file manifest.json of a data set."""

    items: list[ManifestItem]
    refused: list[object]
    subsets: dict[str, ManifestSubset]


class MergeInputRecord(TypedDict):
    """An input in merge.json."""

    name: str
    weight: float
    strength: float


class MergeRecord(TypedDict):
    """The file merge.json of a merge, as far as a report shows it."""

    method: str
    rank: int
    energy_kept: float
    strength: float
    models: list[MergeInputRecord]
    cosines: list[list[float]]


@dataclass(frozen=True)
class ReportSource:
    """Everything of one finished run. Stage names are the keys everywhere.

    `stages` are the recipe's tables (defaults merged in), `folders` all artifacts. `evaluations`,
    `selections`, `datasets`, `merges` and `searches` hold the stages' JSON files, `training` the
    rows of metrics.jsonl. `final` is the released model's name, `confirm` the evaluation whose
    numbers are published.
    """

    title: str
    recipe_text: str
    stages: Mapping[str, Mapping[str, Any]]
    character: Character
    evaluations: Mapping[str, Evaluation]
    folders: Mapping[str, Path]
    selections: Mapping[str, Choice]
    training: Mapping[str, Sequence[StepRow]]
    datasets: Mapping[str, Manifest]
    merges: Mapping[str, MergeRecord]
    searches: Mapping[str, SearchRecord]
    seconds: Mapping[str, float]
    final: str | None
    confirm: str | None
    release: Path | None
    project: Path
    lineage: Lineage | None

    def about(self, evaluation: str) -> "ReportSource":
        """The same run, with another of its evaluations as the published one."""
        return replace(self, confirm=evaluation)

    @property
    def published_name(self) -> str | None:
        """The evaluation whose numbers are published: the named one, else the last first look."""
        whole = [name for name, one in self.evaluations.items() if one.first is None]
        return self.confirm or next(reversed(whole), None)

    @property
    def published(self) -> Evaluation | None:
        """That evaluation; None when nothing was measured."""
        return self.evaluations[self.published_name] if self.published_name else None

    @property
    def measured(self) -> dict[str, EvaluatedModel]:
        """Models of the published evaluation by name, in its order."""
        return {row.name: row for row in self.published.models} if self.published else {}

    @property
    def shown(self) -> str | None:
        """The model that the page is about: the released one, else the last that was measured."""
        return (
            self.final if self.final in self.measured else next(reversed(list(self.measured)), None)
        )

    @cached_property
    def compared(self) -> Mapping[str, list[Comparison]]:
        """The shown model against every other that was declared, or against all."""
        if self.published is None or self.shown is None:
            return {}
        wanted = rivals(self.published, self.shown)
        rows = {(self.shown, name): self.undecided[self.shown, name] for name in wanted}
        return {name: row for (_, name), row in decide_pairs(self.published, rows).items()}

    @cached_property
    def undecided(self) -> Pairs:
        """The shown model against every other, with unadjusted p: each pair is compared once,
        whatever the family that it is adjusted in."""
        evaluation, shown = self.published, self.shown
        if evaluation is None or shown is None:
            return {}
        others = [name for name in evaluation.names if name != shown]
        return undecided_pairs(evaluation, [(shown, name) for name in others])

    def role(self, model: str) -> str:
        """What a model is in this run: `final`, `imported`, `earlier`, `candidate`, `merge` or
        `refined`."""
        table = self.stages.get(stage_of(model), {})
        if model == self.final:
            return "final"
        if table.get("do") == "import":
            return "imported"
        if stage_of(model) in self.merges:
            return "merge"
        if table.get("start"):
            return "refined"
        return "earlier" if model in self.earlier else "candidate"

    @property
    def rivals(self) -> list[str]:
        """The models that the result compares the shown one with: the declared ones, else the one
        that the release names as its previous, else earlier releases and parents."""
        if self.published is None:
            return []
        names = self.published.against or self._previous or [*self.earlier, *self.ancestors]
        return list(dict.fromkeys(names))

    @property
    def _previous(self) -> list[str]:
        """The measured model that the release's card compares the shown one with."""
        wanted = {
            table.get("previous")
            for table in self.stages.values()
            if table["do"] == "release" and table["evaluation"] == self.published_name
        }
        return [name for name in self.measured if wanted & {name, stage_of(name)}]

    @property
    def earlier(self) -> list[str]:
        """The measured models that the shown one is compared with: imported models, and earlier
        releases, i.e. train stages with a single measured checkpoint."""
        seen: dict[str, set[str]] = {}
        for evaluation in self.evaluations.values():
            for name in evaluation.names:
                seen.setdefault(stage_of(name), set()).add(name)
        return [
            name
            for name in self.measured
            if name != self.shown
            and len(seen[stage_of(name)]) == 1
            and self._stands_alone(stage_of(name))
        ]

    @property
    def ancestors(self) -> list[str]:
        """Measured models that the shown one was made from: what it started from, and what was
        merged into that."""
        found: dict[str, None] = {}
        waiting = self._sources(stage_of(self.shown)) if self.shown else []
        while waiting:
            reference = waiting.pop(0)
            found.update(
                dict.fromkeys(name for name in self.measured if reference in (name, stage_of(name)))
            )
            waiting += self._sources(stage_of(reference))
        return [name for name in found if name != self.shown]

    def _stands_alone(self, stage: str) -> bool:
        table = self.stages.get(stage, {})
        return table.get("do") == "import" or (
            table.get("do") == "train" and not table.get("start")
        )

    def _sources(self, stage: str) -> list[str]:
        """References of the models that a stage was made from."""
        if stage in self.merges:
            return [row["name"] for row in self.merges[stage]["models"]]
        if stage in self.selections:
            return list(self.selections[stage].chosen)
        start = self.stages.get(stage, {}).get("start")
        return [start] if start else []


def stage_of(reference: str) -> str:
    """`release_2` of `release_2@30`."""
    return reference.partition("@")[0]
