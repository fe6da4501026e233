"""One plan, many models: generate its pictures, look at them, measure every axis.

The controls and the references belong to the plan and are looked at once. Stages and the merge
search use this; what becomes of the numbers is theirs.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onmodel.character import Character
from onmodel.dataset.captions import split_tags
from onmodel.dataset.pixels import WHITE, open_picture
from onmodel.errors import InputError
from onmodel.evaluate.answers import answers
from onmodel.evaluate.axes import AXES, AxisResult, evaluate_axis
from onmodel.evaluate.axes.base import Evidence, References, Training, Unavailable
from onmodel.evaluate.axes.design import checks_of
from onmodel.evaluate.evaluation import (
    Answers,
    AnyScore,
    EvaluatedModel,
    EvaluationPlan,
    NotMeasured,
    PlannedPrompt,
    Score,
    SharedTables,
)
from onmodel.evaluate.features import Features, measure
from onmodel.evaluate.observer_check import (
    CORRUPTION,
    HEADS,
    IDENTITY,
    MOST_DAMAGED,
    ObserverCheck,
    check_corruption,
    check_heads,
    check_identity,
    check_tagger,
    damaged_copy,
)
from onmodel.evaluate.observers import Observers
from onmodel.evaluate.plan import make_plan, signature_of
from onmodel.events import Events, Task
from onmodel.hashing import hash_json, read_json
from onmodel.records import Artifact, Model
from onmodel.sample.pictures import PictureRequest, key, picture_path, render
from onmodel.sample.sampling import Sampling
from onmodel.sample.suites import Prompt, Vocabulary, noise_seed

if TYPE_CHECKING:
    from onmodel.families.protocol import Family

_Arms = tuple[Model | None, tuple[str, ...]]  # of a model, None for the base
Looked = tuple[
    list[list[Path]], Features
]  # an arm's pictures [P][S] and what is seen in them [P, S, …]
MODEL_ARMS, BASE_ARMS, CONTROLS = ("L", "N"), ("B", "D", "BN"), ("B", "D")


BLOCK = 24  # prompts that are drawn seed by seed; the looks of a tuning are whole blocks


@dataclass(frozen=True)
class Assessed:
    """What was found of a model or control. `axes`: id → result, or why there is none; `pictures`:
    arm → [P][S]."""

    axes: dict[str, AxisResult | Unavailable]
    pictures: dict[str, list[list[Path]]]
    answers: Answers
    checks: Mapping[str, ObserverCheck] = field(default_factory=dict)

    def scores(self, signature: str) -> dict[str, AnyScore]:
        """Axis → score, or why there is none."""
        found: dict[str, AnyScore] = {}
        for id, result in self.axes.items():
            if isinstance(result, Unavailable):
                found[id] = NotMeasured(id, None, str(result), signature)
            else:
                value = result.interval
                arm = AXES[id][0].arm
                found[id] = Score(id, value.value, value.low, value.high, value.n, arm, signature)
        return found

    def row(self, name: str, epoch: int | None, signature: str) -> EvaluatedModel:
        """What an evaluation says of it, without its pictures."""
        results = {id: one for id, one in self.axes.items() if isinstance(one, AxisResult)}
        return EvaluatedModel(
            name=name,
            epoch=epoch,
            axes=self.scores(signature),
            per_prompt={id: result.per_prompt for id, result in results.items()},
            rows={id: result.joint.rows.tolist() for id, result in results.items() if result.joint},
            details={id: result.details for id, result in results.items()},
            answers=self.answers,
        )


def shared_tables(found: Sequence[Assessed]) -> SharedTables:
    """What the rows of joint axes are read with: the same for every model that has the axis."""
    tables: dict[str, dict[str, Any]] = {}
    for one in found:
        for id, result in one.axes.items():
            if id not in tables and isinstance(result, AxisResult) and result.joint:
                shared = result.joint.shared.items()
                tables[id] = {name: (array + 0).tolist() for name, array in shared}
    return tables


@dataclass(frozen=True, kw_only=True)
class Design:
    """What is generated for every model: `seeds` pictures per prompt, from `first_seed` on.
    `triggers`: a model's name → the word it knows the character by, where that is not the
    character's own trigger."""

    character: Character
    suite: str
    prompts: Sequence[Prompt]
    seeds: int
    triggers: Mapping[str, str] = field(default_factory=dict)
    first_seed: int = 0

    def requests(self, model: Model | None) -> list[PictureRequest]:
        """All pictures of a model, or (None) of the base, in the order in which they are
        generated."""
        letters = BASE_ARMS if model is None else MODEL_ARMS
        return [
            request
            for letter in letters
            for request in self._in_blocks(self._requests(letter, model))
        ]

    def _requests(self, letter: str, model: Model | None) -> list[PictureRequest]:
        return [
            PictureRequest(self._words(prompt, letter, model), prompt.negative, seed, model)
            for prompt in self.prompts
            for seed in self._noise(prompt)
        ]

    def _words(self, prompt: Prompt, letter: str, model: Model | None) -> str:
        words = prompt.words(letter)
        if model is None or model.name not in self.triggers:
            return words
        return re.sub(
            rf"\b{re.escape(self.character.trigger)}\b", lambda _: self.triggers[model.name], words
        )

    def _in_blocks(self, requests: Sequence[PictureRequest]) -> list[PictureRequest]:
        """The first seed of BLOCK prompts, their next one, …, then the next prompts: a look at more
        seeds or at more blocks begins with the batches of a shorter one, and the picture cache need
        not make them again."""
        rows = [
            requests[start : start + self.seeds] for start in range(0, len(requests), self.seeds)
        ]
        return [
            row[seed]
            for start in range(0, len(rows), BLOCK)
            for seed in range(self.seeds)
            for row in rows[start : start + BLOCK]
        ]

    def _noise(self, prompt: Prompt) -> tuple[int, ...]:
        return tuple(
            noise_seed(self.suite, prompt.id, self.first_seed + index)
            for index in range(self.seeds)
        )


@dataclass(frozen=True, kw_only=True)
class Assessor(Design):
    """Everything that is fixed before looking; `cache` keeps features.

    `references` and `training` (data set → the pictures of it that are trained on) with the SHA-256
    that names them, or None: axes that need them are unavailable. `learnt`: a model's name → the
    data sets it was trained on; a model that is not there is held to all.
    """

    family: "Callable[[], Family]"
    base_sha256: str
    vocabulary: Vocabulary
    sampling: Sampling
    observers: Observers
    references: tuple[References, str] | None
    pictures: Path
    cache: Path
    events: Events
    training: tuple[Mapping[str, Training], str] | None = None
    learnt: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @cached_property
    def plan(self) -> EvaluationPlan:
        """The frozen plan."""
        return make_plan(
            self.base_sha256,
            self.suite,
            [PlannedPrompt.of(prompt, self._noise(prompt)) for prompt in self.prompts],
            self.seeds,
            self.sampling,
            self.observers.sha256,
            references=self.references[1] if self.references else "",
            training=self.training[1] if self.training else "",
        )

    @cached_property
    def signature(self) -> str:
        """The plan in one line."""
        return signature_of(self.plan)

    def assess(self, models: Sequence[Model]) -> tuple[list[Assessed], dict[str, Assessed]]:
        """Generate what the cache lacks, look at it and measure: the models in order, and the
        controls by arm.

        A control is the base alone, its arm standing where a model's L stands. While a model's
        pictures are generated, a thread looks at those of the one before.
        """
        wanted: list[_Arms] = [(None, BASE_ARMS), *((m, MODEL_ARMS) for m in models)]
        total = sum(len(letters) for _, letters in wanted) * len(self.prompts) * self.seeds
        with (
            self.events.task("pictures", total=total) as made,
            self.events.task("look at pictures", total=total) as seen,
            ThreadPoolExecutor(max_workers=1) as observer,
        ):
            looks = []
            for number, (model, letters) in enumerate(wanted):
                self._draw([one for one, _ in wanted[number:]], made)
                looks.append(observer.submit(self._arms, letters, model, seen))
            base, *arms = (look.result() for look in looks)
        found = [
            self._measured(one | base, MODEL_ARMS, model)
            for one, model in zip(arms, models, strict=True)
        ]
        controls = {
            arm: self._measured(base | {"L": base[arm], "N": base["BN"]}, (arm,))
            for arm in CONTROLS
        }
        return found, controls

    def draw(self, models: Sequence[Model]) -> None:
        """Generate what the cache lacks. What shares a batch follows from these prompts alone."""
        wanted = [None, *models]
        total = sum(len(self.requests(model)) for model in wanted)
        with self.events.task("pictures", total=total) as made:
            for number in range(len(wanted)):
                self._draw(wanted[number:], made)

    def _draw(self, wanted: Sequence[Model | None], task: Task) -> None:
        """Generate the pictures of the first model; those of the others come later."""
        requests, *others = map(self.requests, wanted)
        later = [request for rows in others for request in rows]
        render(self.family, self.base_sha256, requests, self.sampling, self.pictures, task, later)

    def reseeded(self) -> Assessed:
        """The base with the description under other noise, read as a model: what axes read when
        only chance differs."""
        other = replace(self, first_seed=self.first_seed + self.seeds)
        requests = other._requests("D", None)
        with self.events.task("re-seeded base", total=len(requests)) as task:
            render(self.family, self.base_sha256, requests, self.sampling, self.pictures, task)
        with self.events.task("look at the re-seeded base", total=len(requests) * 3) as task:
            base = self._arms(("D", "BN"), None, task)
            again = other._arm("D", None, task)
        found = self._measured(base | {"L": again, "N": base["BN"]}, ())
        return Assessed(found.axes, {"R": again[0]}, found.answers)

    def _measured(
        self, arms: Mapping[str, Looked], shown: Sequence[str], model: Model | None = None
    ) -> Assessed:
        seen = {letter: features for letter, (_, features) in arms.items()}
        references = self.references[0] if self.references else None
        evidence = Evidence(
            character=self.character,
            prompts=self.prompts,
            vocabulary=self.vocabulary,
            columns=self._columns,
            arms=seen,
            references=references,
            training=self._trained(model),
            checks=self._check_observers(seen["D"], seen["BN"], references),
        )
        axes: dict[str, AxisResult | Unavailable] = {}
        for id in AXES:
            try:
                axes[id] = evaluate_axis(id, evidence)
            except Unavailable as why:
                axes[id] = why
        pictures = {letter: arms[letter][0] for letter in shown}
        return Assessed(axes, pictures, answers(evidence), evidence.checks)

    def _check_observers(
        self, base: Features, others: Features, references: References | None
    ) -> dict[str, ObserverCheck]:
        """What each observer shows on pictures with known content: the references, `base` with the
        description, and `others`, the base's pictures of other characters."""
        labelled = (references.labels, references.features.tags) if references else None
        asked = set().union(*(prompt.asked for prompt in self.prompts))
        checks = check_tagger(self.vocabulary, self._columns, labelled, (self.prompts, base.tags))
        # A trait that no prompt asks for and no label names is judged by the references alone.
        found = {
            name: one for name, one in checks.items() if name in asked or one.value is not None
        }
        if references is None:
            return found
        looks = references.features
        if references.compare is not None:
            found[IDENTITY] = check_identity(
                references.differences(looks.identity),
                references.groups,
                references.differences(others.flat().identity),
            )
        if len(references.damaged):
            intact = looks.corruption[: len(references.damaged)]
            found[CORRUPTION] = check_corruption(intact, references.damaged)
        if self.observers.detectors is not None:
            found[HEADS] = check_heads(looks.heads)
        return found

    def _trained(self, model: Model | None) -> Training | None:
        if self.training is None:
            return None
        datasets = self.training[0]
        return Training.join(
            [datasets[id] for id in self.learnt.get(model.name if model else "", datasets)]
        )

    def _arms(self, letters: Sequence[str], model: Model | None, task: Task) -> dict[str, Looked]:
        return {letter: self._arm(letter, model, task) for letter in letters}

    def _arm(self, letter: str, model: Model | None, task: Task) -> Looked:
        """Pictures [P][S] of an arm and their features [P, S, …]."""
        keys = [
            key(self.base_sha256, request, self.sampling)
            for request in self._requests(letter, model)
        ]
        paths = [picture_path(self.pictures, one) for one in keys]
        flat = measure(paths, self.observers, self.character.palette, self.cache, task)
        rows = [paths[start : start + self.seeds] for start in range(0, len(paths), self.seeds)]
        return rows, flat.take(np.arange(len(paths)).reshape(len(self.prompts), self.seeds))

    @cached_property
    def _columns(self) -> dict[str, int]:
        tags = {tag for values in self.vocabulary.values() for tag in values.values()}
        tags |= checks_of(self.character.required, self.character.forbidden, {}).keys()
        return self.observers.tagger.columns(tags) if self.observers.tagger else {}


def load_references(
    dataset: Artifact,
    subset: str | None,
    observers: Observers,
    palette: Mapping[str, str],
    cache: Path,
    events: Events,
) -> tuple[References, str]:
    """The held-out pictures of a data set (or of one subset) with the SHA-256 of their list.

    Raises InputError when there are none: scoring against pictures that were trained on rewards
    copying.
    """
    items = read_json(dataset.path / "manifest.json")["items"]
    held_out = [
        item for item in items if item["split"] == "heldout" and subset in (None, item["subset"])
    ]
    if not held_out:
        names = (
            ", ".join(sorted({item["subset"] for item in items if item["split"] == "heldout"}))
            or "no subset"
        )
        raise InputError(
            "references.subset", subset, f"holds no held-out pictures; they are in {names}"
        )
    paths = [dataset.path / item["image"] for item in held_out]
    with events.task("look at the references", total=len(paths)) as task:
        features = measure(
            paths, observers, palette, cache, task, [item.get("paper", "") for item in held_out]
        )
    groups = np.array([item["group"] for item in held_out])
    found = References(
        features,
        groups,
        compare=observers.identity.differences if observers.identity else None,
        labels=[split_tags(item["tags"]) for item in held_out],
        damaged=_damaged(held_out[:MOST_DAMAGED], dataset.path, observers),
    )
    return found, hash_json([item["sha256"] for item in held_out])


def _damaged(items: Sequence[Mapping[str, str]], folder: Path, observers: Observers) -> np.ndarray:
    """What the classifier of corruption says of damaged copies [N]; nothing without one."""
    if observers.corruption is None:
        return np.zeros(0)
    copies = [
        damaged_copy(
            open_picture(folder / item["image"], item.get("paper") or WHITE), item["sha256"]
        )
        for item in items
    ]
    return observers.corruption(copies)


def load_training(
    datasets: Mapping[str, Artifact],
    observers: Observers,
    palette: Mapping[str, str],
    cache: Path,
    events: Events,
) -> tuple[dict[str, Training], str]:
    """The pictures of each data set that are trained on, with the SHA-256 of their list.

    Raises InputError for a data set that is held out whole.
    """
    rows = {id: _trained_on(dataset) for id, dataset in datasets.items()}
    found = {}
    with events.task("look at the training pictures", total=sum(map(len, rows.values()))) as task:
        for id, items in rows.items():
            if not items:
                raise InputError(
                    "training", "no picture", "name curate stages whose pictures are trained on"
                )
            paths = [datasets[id].path / item["image"] for item in items]
            features = measure(
                paths, observers, palette, cache, task, [item.get("paper", "") for item in items]
            )
            found[id] = Training(
                features, [f"{item['subset']}/{item['image'].rpartition('/')[2]}" for item in items]
            )
    hashes = []
    for items in rows.values():
        hashes.append([item["sha256"] for item in items])
    return found, hash_json(hashes)


def _trained_on(dataset: Artifact) -> list[dict[str, Any]]:
    """The items of a data set that are trained on."""
    items = read_json(dataset.path / "manifest.json")["items"]
    return [item for item in items if item["split"] == "train"]
