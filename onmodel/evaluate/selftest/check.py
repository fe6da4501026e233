"""The validity table: every axis against every planted fault, on drawn pictures that the toon
observers look at.

An axis is alive when it moves the right way on most prompts that move at all; twins (two clean
models under other chance) must tie (max-T over the axes); the fault must be found with its sign and
at least its size; neighbours stay quiet; a larger dose moves the axis farther the same way; the
null, a base drawn again from other noise, ties with the base; JPEG at quality 95 changes nothing
that counts.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from onmodel.character import Character, load_character
from onmodel.evaluate.axes import AXES, AxisResult, Evidence, References, Training, evaluate_axis
from onmodel.evaluate.axes.design import checks_of
from onmodel.evaluate.features import Features, observe
from onmodel.evaluate.observers import Observers
from onmodel.evaluate.selftest.drawn import SIDE, Faults, picture, training_toons
from onmodel.evaluate.selftest.faults import PLANTED, Planted
from onmodel.evaluate.statistics import CONFIDENCE, max_t, paired
from onmodel.events import Events, Task
from onmodel.randomness import generator
from onmodel.sample.suites import Prompt, SuiteName, noise_seed, suite
from onmodel.toon.attributes import VOCABULARY
from onmodel.toon.base import TOON_BASE
from onmodel.toon.datasets import STANDIN_SETS, deal
from onmodel.toon.draw import draw

SHEET = TOON_BASE.parents[1] / "characters" / "backgwa.toml"
SEEDS = 4
DOSES = (0.25, 0.5, 1.0)
ALIVE = 0.75  # share of prompts that move the right way, of those that move
QUIET = 0.1  # of a whole fault: what a neighbour, the null or JPEG may move an axis
SLACK = 0.01  # of a whole fault: a difference that counts as none
# drawn beside the faults: base and base without trigger, clean, twin, null, two of JPEG, the
# leaking one
ARMS = 8
CLEAN, TWIN = Faults(stream="one"), Faults(stream="other")


@dataclass(frozen=True)
class CheckRow:
    """One axis against one fault that it must find.

    Values are in the axis' unit; what `loudest`, `null` and `jpeg` move it by, in whole faults.
    `doses`: value of the model at doses 0, 0.25, 0.5 and 1; `loudest`: the neighbour fault that
    moves the axis most; `failed` names the columns that do not hold.
    """

    axis: str
    fault: str
    alive: float
    twins_p: float
    expected: float
    found: float
    low: float
    high: float
    loudest: tuple[str, float]
    doses: tuple[float, ...]
    null: float
    null_p: float
    jpeg: float
    failed: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Laboratory:
    """Drawn arms of one seed, looked at once each."""

    def __init__(
        self,
        character: Character,
        observers: Observers,
        seed: int,
        task: Task,
        suite_name: SuiteName = "confirm",
    ) -> None:
        assert observers.tagger is not None and observers.identity is not None
        self.character, self.observers, self.seed, self.task = character, observers, seed, task
        self.prompts = suite(suite_name, character, VOCABULARY)
        tags = {tag for values in VOCABULARY.values() for tag in values.values()}
        self.axes = [
            id for id, (axis, _) in AXES.items() if set(axis.observers) <= set(observers.sha256)
        ]
        tags |= checks_of(character.required, character.forbidden, {}).keys()
        self.columns = observers.tagger.columns(tags)
        toons = deal(STANDIN_SETS["reference"])
        looks = self._look([draw(toon, SIDE, SIDE) for toon in toons])
        self.references = References(looks, np.arange(len(toons)), observers.identity.differences)
        trained = self._look([draw(toon, SIDE, SIDE) for toon in training_toons()])
        self.training = Training(trained, [f"drawn/{i}" for i in range(len(trained.grain))])
        self.base = {letter: self.arm(letter, None) for letter in ("D", "BN")}

    def evidence(self, on: Features, without: Features) -> Evidence:
        """All that is known of a model whose pictures these are, with its trigger and without."""
        return Evidence(
            self.character,
            self.prompts,
            VOCABULARY,
            self.columns,
            {"L": on, "N": without, **self.base},
            self.references,
            self.training,
        )

    def measured(self, on: Features, without: Features) -> dict[str, AxisResult]:
        """Every axis that has its observers, of such a model."""
        evidence = self.evidence(on, without)
        return {id: evaluate_axis(id, evidence) for id in self.axes}

    def arm(
        self, letter: str, faults: Faults | None, first: int = 0, jpeg: bool = False
    ) -> Features:
        """Features [P, S] of an arm, drawn under the noise seeds from `first` on."""
        seeds = self._seeds(first)
        images = [picture(prompt.words(letter), seed, faults)[0] for prompt, seed in seeds]
        return self._arranged([_jpeg(image) for image in images] if jpeg else images)

    def mixed(self, letter: str, first: int) -> Features:
        """The same of a model that errs by chance: each picture has one planted fault, or none."""
        kinds = [CLEAN, *(planted.faults for planted in PLANTED.values())]
        return self._arranged(
            [
                picture(
                    prompt.words(letter),
                    seed,
                    replace(
                        kinds[int(generator(seed, "mixed fault").integers(len(kinds)))],
                        stream=CLEAN.stream,
                    ),
                )[0]
                for prompt, seed in self._seeds(first)
            ]
        )

    def _seeds(self, first: int) -> list[tuple[Prompt, int]]:
        """Prompt and noise seed of every picture of an arm."""
        return [
            (prompt, noise_seed(f"selftest/{self.seed}", prompt.id, first + i))
            for prompt in self.prompts
            for i in range(SEEDS)
        ]

    def _arranged(self, images: Sequence[Image.Image]) -> Features:
        """What is seen in the pictures of an arm [P, S]."""
        return self._look(images).take(
            np.arange(len(images)).reshape(len(self.prompts), len(images) // len(self.prompts))
        )

    def dosed(self, clean: Features, full: Features, dose: float) -> Features:
        """Full-size pictures in a share `dose` of the places, the same places and more at a larger
        dose."""
        carries = generator(self.seed, "dose").random(len(self.prompts) * SEEDS) < dose
        both = clean.flat().join(full.flat())
        return both.take(
            np.arange(carries.size).reshape(-1, SEEDS) + (carries * carries.size).reshape(-1, SEEDS)
        )

    def ties(
        self, one: Mapping[str, AxisResult], other: Mapping[str, AxisResult]
    ) -> dict[str, float]:
        """p that two models are alike, for each axis, adjusted over the axes."""
        differences = np.stack([self.values(id, one) - self.values(id, other) for id in self.axes])
        return dict(zip(self.axes, max_t(differences), strict=True))

    def values(self, axis: str, measured: Mapping[str, AxisResult]) -> np.ndarray:
        """The axis' value for each prompt [P], NaN where it says nothing."""
        return np.array(
            [measured[axis].per_prompt.get(prompt.id, np.nan) for prompt in self.prompts]
        )

    def change(
        self, axis: str, one: Mapping[str, AxisResult], other: Mapping[str, AxisResult]
    ) -> np.ndarray:
        """What changes from the other model to the one for each prompt [P], in whole faults."""
        return (self.values(axis, one) - self.values(axis, other)) / AXES[axis][0].fault

    def moved(
        self, axis: str, one: Mapping[str, AxisResult], other: Mapping[str, AxisResult]
    ) -> float:
        """The mean change over prompts."""
        return float(np.nanmean(self.change(axis, one, other)))

    def _look(self, images: Sequence[Image.Image]) -> Features:
        found = observe(images, self.observers, self.character.palette)
        self.task.advance(len(images))
        return found


def selftest(observers: Observers, seed: int, events: Events) -> list[CheckRow]:
    """The table at one seed: a row for every axis and fault that it must find."""
    character = load_character(SHEET)
    graded = sum(planted.graded for planted in PLANTED.values())
    arms = ARMS + len(PLANTED) + (len(DOSES) - 1) * graded
    total = (
        arms * SEEDS * len(suite("confirm", character, VOCABULARY))
        + STANDIN_SETS["reference"].count
    )
    with events.task(f"draw and look, seed {seed}", total=total) as task:
        lab = Laboratory(character, observers, seed, task)
        silent = lab.base["BN"]  # what a LoRA without leak draws without its trigger
        clean_on = lab.arm("L", CLEAN)
        clean = lab.measured(clean_on, silent)
        twin = lab.measured(lab.arm("L", TWIN), silent)
        jpeg = lab.measured(lab.arm("L", CLEAN, jpeg=True), lab.arm("N", None, jpeg=True))
        again, base = (
            lab.measured(lab.arm("D", None, first=SEEDS), silent),
            lab.measured(lab.base["D"], silent),
        )
        doses = {id: _doses(lab, planted, clean_on, silent) for id, planted in PLANTED.items()}
    twins_p, null_p = lab.ties(twin, clean), lab.ties(again, base)
    rows = []
    for fault, planted in PLANTED.items():
        for axis, least in planted.moves.items():
            read = [clean, *doses[fault]]
            effect = paired(lab.values(axis, read[-1]), lab.values(axis, clean)).mean
            apart = np.sign(least) * lab.change(axis, read[-1], clean)
            neighbours = {
                other: lab.moved(axis, doses[other][-1], clean)
                for other, row in PLANTED.items()
                if axis not in row.moves and axis not in row.related
            }
            loudest = max(neighbours, key=lambda other: abs(neighbours[other]))
            row = CheckRow(
                axis,
                fault,
                alive=float(np.mean(apart[np.abs(apart) > SLACK] > 0)),
                twins_p=twins_p[axis],
                expected=least,
                found=effect.value,
                low=effect.low,
                high=effect.high,
                loudest=(loudest, neighbours[loudest]),
                doses=tuple(one[axis].interval.value for one in read),
                null=lab.moved(axis, again, base),
                null_p=null_p[axis],
                jpeg=lab.moved(axis, jpeg, clean),
            )
            rows.append(replace(row, failed=_failed(row)))
    return rows


def _doses(
    lab: Laboratory, planted: Planted, clean_on: Features, silent: Features
) -> list[dict[str, AxisResult]]:
    """What is measured at each of DOSES."""
    faults = replace(planted.faults, stream=CLEAN.stream)
    leaks = lab.arm("N", faults) if planted.faults.leak else silent
    full = lab.arm("L", faults)
    found = []
    for dose in DOSES:
        if planted.graded and dose < 1:
            on = lab.arm("L", replace(planted.at(dose), stream=CLEAN.stream))
        else:
            on = lab.dosed(clean_on, full, dose)
        found.append(lab.measured(on, lab.dosed(silent, leaks, dose)))
    return found


def _failed(row: CheckRow) -> tuple[str, ...]:
    towards = np.sign(row.expected) * np.array(row.doses) / AXES[row.axis][0].fault
    holds = {
        "alive": row.alive >= ALIVE,
        "twins": row.twins_p > 1 - CONFIDENCE,
        "found": row.found * np.sign(row.expected) >= abs(row.expected) and row.low * row.high > 0,
        "neighbours": abs(row.loudest[1]) <= QUIET,
        "dose": bool((np.diff(towards) >= -SLACK).all()),
        "null": row.null_p > 1 - CONFIDENCE,
        "jpeg": abs(row.jpeg) <= QUIET,
    }
    return tuple(name for name, held in holds.items() if not held)


def _jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    return Image.open(buffer).convert("RGB")
