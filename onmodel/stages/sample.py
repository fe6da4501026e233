"""sample: generate pictures with a model and, if wanted, keep the best that differ: raw material
for the next data set.

Prompts are a suite, or lists of tags per attribute that are drawn in balanced rounds. What is kept
shows the character as surely as her held-out references do, and is spread over layouts and tags;
every picture says why it was kept or not.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from onmodel.character import Character
from onmodel.errors import InputError
from onmodel.evaluate import axes
from onmodel.evaluate.assess import load_references
from onmodel.evaluate.axes.reproduction import threshold
from onmodel.evaluate.features import Features, measure
from onmodel.evaluate.observers import Observers, load_observers
from onmodel.evaluate.observers.files import FILES
from onmodel.evaluate.observers.identity import unit
from onmodel.evaluate.observers.source import SCHEME, content, wrong
from onmodel.families.modes import Modes
from onmodel.families.protocol import SamplingSettings
from onmodel.hashing import write_json
from onmodel.ledger.lineage import add
from onmodel.policy import check_text
from onmodel.reading import LARGEST_WHOLE
from onmodel.records import Artifact
from onmodel.sample.pictures import PictureOrder, PictureRequest, Sampling, render
from onmodel.sample.suites import (
    Prompt,
    SuiteName,
    free_table,
    it_shows,
    matrix,
    noise_seed,
    suite,
    vocabulary_of,
    whom,
)
from onmodel.stages.base import (
    Context,
    Inputs,
    Kind,
    NamedStage,
    Plan,
    Reads,
    StageSettings,
    keep_file,
    of_bytes,
)
from onmodel.train.options import LARGEST_BATCH, MOST_BLOCKS, Side
from onmodel.validation import StrictTable

if TYPE_CHECKING:
    from onmodel.families.protocol import Family

PROMPTED = ("trigger", "count_tag", "tags", "description", "free", "outfits")  # what prompts say
MAKES: Kind = "pictures"
READS = Reads("sample", sheet=(*PROMPTED, "palette"), head=("seed", "threads"))
Place = Annotated[str, Field(pattern=f"^{SCHEME}")] | Path  # on the hub, or a folder
MOST_SEEDS = 10_000
MOST_LORA_WEIGHT = 100.0


class ReferenceSource(StrictTable):
    """Held-out pictures of the character."""

    stage: str = Field(description="Curate stage with held-out pictures.")
    subset: str | None = Field(
        default=None, description="Its subset. Unset: all held-out pictures."
    )


class Generating(StageSettings, SamplingSettings):
    """What every stage that generates and judges pictures can set. Observers are folders, or
    `hf://owner/name[/folder]` (docs/explanation/observers.md)."""

    weight: float = Field(
        default=1.0, ge=-MOST_LORA_WEIGHT, le=MOST_LORA_WEIGHT, description="Weight of the LoRA."
    )
    size: Side | tuple[Side, Side] = Field(
        default=96, description="Side, or [width, height], in pixels."
    )
    batch: int = Field(
        default=8,
        ge=1,
        le=LARGEST_BATCH,
        description="Pictures per batch. Changes memory and speed only.",
    )
    swap_blocks: int = Field(
        default=0,
        ge=0,
        le=MOST_BLOCKS,
        description=(
            "Blocks whose weights lie in the host's memory and come to the card when they compute. "
            "Changes memory and speed only."
        ),
    )
    vae_tiles: bool = Field(
        default=False,
        description="Decode large pictures in strips. Changes memory and speed only.",
    )
    references: ReferenceSource | None = Field(
        default=None, description="Held-out pictures of the character to compare with."
    )
    tagger: Place | None = Field(
        default=None,
        description=(
            "Tagger in WD v3 format: a folder or hf://owner/name. Unset: the toon base's own,"
            " else none."
        ),
    )
    identity: Place | None = Field(
        default=None,
        description="Identity model in CCIP format. Unset: the toon base's own, else none.",
    )
    detectors: tuple[Place, ...] = Field(
        default=(),
        description="Detectors of persons and heads. Empty: the toon base's own, else none.",
    )
    corruption: Place | None = Field(
        default=None,
        description="Classifier of corrupted pictures. Unset: the toon base's own, else none.",
    )
    aesthetic: Place | None = Field(
        default=None, description="Classifier of aesthetic quality. Unset: none."
    )
    style_embedding: Place | None = Field(
        default=None, description="Model of drawing styles. Unset: none."
    )
    copy_embedding: Place | None = Field(
        default=None,
        description=("Model that finds copies of training pictures. Unset: pixels are compared."),
    )
    content_embedding: Place | None = Field(
        default=None, description="Model of picture content. Unset: none."
    )

    @field_validator("references", mode="before")
    @classmethod
    def _whole_stage(cls, value: object) -> object:
        return {"stage": value} if isinstance(value, str) else value

    @field_validator("detectors", mode="before")
    @classmethod
    def _one_detector(cls, value: object) -> object:
        return (value,) if isinstance(value, str | Path) else value

    def keyed(self) -> dict[str, object]:
        return of_bytes(super().keyed())

    def told(self) -> dict[str, object]:
        return of_bytes(super().told())

    @property
    def modes(self) -> Modes:
        """How the base computes."""
        return Modes(vae_tiles=self.vae_tiles, swap_blocks=self.swap_blocks)

    @contextmanager
    def computing(self, context: Context) -> Iterator[Context]:
        """The context with a base that, once it is loaded, computes as these settings say."""
        modes = self.modes
        with ExitStack() as stack:

            @cache
            def family() -> "Family":
                found = context.family()
                stack.enter_context(found.computing(modes))
                return found

            yield context if modes == Modes() else replace(context, family=family)

    @property
    def sampling(self) -> Sampling:
        """The same as the picture cache takes it."""
        width, height = (self.size, self.size) if isinstance(self.size, int) else self.size
        return Sampling(
            self.steps,
            self.guidance,
            self.shift,
            self.weight,
            width,
            height,
            self.batch,
            self.sampler,
            self.schedule,
            self.empty_text,
        )

    def named_stages(self) -> list[NamedStage]:
        held_out = self.references
        if held_out is None:
            return []
        return [NamedStage("references", held_out.stage, "dataset", held_out.subset)]

    def contents(self) -> dict[str, object]:
        """The files of the observers; None while they are not to be had. On the hub another
        revision has other files, and the place is told in the results, so it stays."""
        return {
            name: [
                [place if isinstance(place, str) else "", _content(name, str(place))]
                for place in places
            ]
            for name, places in self._named().items()
        }

    @property
    def missing(self) -> tuple[InputError, ...]:
        """What is wrong with the observers that were named."""
        named = [
            (observer, str(place)) for observer, places in self._named().items() for place in places
        ]
        return tuple(error for observer, place in named if (error := wrong(observer, place)))

    def observers(self, context: Context) -> Observers:
        """The observers that were named, or the toon world's own."""
        named = {name: [str(place) for place in places] for name, places in self._named().items()}
        return load_observers(context.base_name, named, context.threads)

    def _named(self) -> dict[str, list[Path | str]]:
        """Observer → its places, for those that are named."""
        places = {name: getattr(self, name) for name in FILES}
        return {
            name: list(value) if isinstance(value, tuple) else [value]
            for name, value in places.items()
            if value
        }


def _content(observer: str, place: str) -> list[str | None] | None:
    try:
        return content(observer, place)
    except InputError:
        return None


class Settings(Generating):
    """The settings of a sample stage."""

    do: Literal["sample"]
    model: str = Field(description="Model that draws.")
    prompts: SuiteName | dict[str, list[str]] | None = Field(
        default=None,
        description=(
            'Suite name, or attribute to a list of tags ("" asks for nothing). Unset: every '
            "free attribute is varied."
        ),
    )
    count: int = Field(ge=1, description="Number of pictures.")
    seed: int = Field(default=0, ge=0, le=LARGEST_WHOLE, description="Seed of the noise.")
    keep: int | None = Field(
        default=None, ge=1, description="Number of best pictures kept. Unset: all."
    )

    def named_stages(self) -> list[NamedStage]:
        return [NamedStage("model", self.model, "model"), *super().named_stages()]


def estimate(settings: Settings, before: Mapping[str, Plan]) -> Plan:
    """Generates `count` pictures."""
    counts = {"pictures": settings.keep or settings.count}
    drawn = settings.sampling.drawn(settings.count)
    return Plan(pictures=settings.count, counts=counts, drawn=drawn, missing=settings.missing)


def run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    """Generate and choose. Raises InputError for a refused prompt, or for `keep` without references
    to judge by."""
    with settings.computing(context) as context:
        return _run(inputs, settings, context)


def _run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    if settings.keep is not None and settings.references is None:
        raise InputError(
            f"stages.{context.name}.keep",
            settings.keep,
            'needs references = "<curate stage>" to judge by',
        )
    model = inputs.model(settings.model)
    wanted = _wanted(inputs, settings, context)
    requests = [request for _, request in wanted]
    with context.events.task(f"pictures for {context.name}", total=len(requests)) as task:
        paths = render(
            context.family, context.base_sha256, requests, settings.sampling, context.pictures, task
        )
    verdicts = [(True, "all were wanted")] * len(paths)
    if settings.keep is not None:
        verdicts = _chosen(paths, settings, inputs, context)
    rows = []
    for (prompt, request), path, (kept, reason) in zip(wanted, paths, verdicts, strict=True):
        keep_file(path, context.out / "pictures" / path.name)
        tags, sentence = captions(prompt, context.character)
        rows.append(
            {
                "file": f"pictures/{path.name}",
                "prompt": request.prompt,
                "tags": tags,
                "sentence": sentence,
                "seed": request.seed,
                "kept": kept,
                "reason": reason,
                "model_sha256": model.sha256,
            }
        )
    write_json(context.out / "pictures.json", rows)
    kept_count = sum(kept for kept, _ in verdicts)
    if settings.keep is not None and kept_count < settings.keep:
        few = (
            f"only {kept_count} of {len(rows)} pictures show the character well enough;"
            f" {settings.keep} were wanted"
        )
        context.events.note(few, "error")
    parents = [
        context.recipe(READS),
        *(inputs.lineage(reference) for reference in settings.needs()),
    ]
    facts = {
        "model_sha256": model.sha256,
        "count": len(rows),
        "kept": kept_count,
        "settings": settings.told(),
    }
    return context.commit("pictures", add(parents, "pictures", name=context.name, **facts))


def drawings(inputs: Inputs, settings: Settings, context: Context) -> list[PictureOrder]:
    """The pictures that the stage will request."""
    requests = [request for _, request in _wanted(inputs, settings, context)]
    return [PictureOrder(requests, settings.sampling, settings.modes)]


def _wanted(
    inputs: Inputs, settings: Settings, context: Context
) -> list[tuple[Prompt, PictureRequest]]:
    """The pictures with their prompts. Raises InputError for a refused prompt."""
    model, prompts = inputs.model(settings.model), _prompts(settings, context)
    found = []
    for i in range(settings.count):
        number, place = divmod(i, len(prompts))
        prompt, suite_name = prompts[place], f"{context.name}/{context.seed}"
        seed = noise_seed(suite_name, prompt.id, settings.seed + number)
        found.append((prompt, PictureRequest(prompt.text["L"], prompt.negative, seed, model)))
    return found


def captions(prompt: Prompt, character: Character) -> tuple[str, str]:
    """The training captions, tags and sentence, of a picture made for this prompt: trigger and what
    was asked."""
    sentence = f"{whom(character)} named {character.trigger}.{it_shows(prompt.tags)}"
    return ", ".join([character.count_tag, character.trigger, *prompt.tags]), sentence


def choose(features: Features, references: axes.References, keep: int) -> list[tuple[bool, str]]:
    """Keep at most `keep` pictures, farthest-first among those that show the character; (kept,
    reason) for each.

    The first kept agrees best with the references; each next one is farthest, in tags and layout,
    from those kept. Raises Unavailable with too few references.
    """
    needed = threshold(references)
    agreement = references.agreement(features.identity)
    look = np.concatenate([unit(features.tags), unit(features.box)], axis=-1)
    passing = agreement >= needed
    nearest = np.full(len(look), np.inf)
    said = [
        f"agreement {value:.3f} is below the references' own {needed:.3f}" for value in agreement
    ]
    kept: list[int] = []
    for _ in range(min(keep, int(passing.sum()))):
        score = np.where(passing, nearest if kept else agreement, -np.inf)
        score[kept] = -np.inf
        pick = int(score.argmax())
        apart = f"{nearest[pick]:.3f} from the nearest kept" if kept else "the best"
        said[pick] = f"agreement {agreement[pick]:.3f}, {apart}"
        kept.append(pick)
        nearest = np.minimum(nearest, np.linalg.norm(look - look[pick], axis=-1))
    for i in set(np.flatnonzero(passing).tolist()) - set(kept):
        said[i] = f"agreement {agreement[i]:.3f}, but only {nearest[i]:.3f} from one that was kept"
    return [(i in kept, reason) for i, reason in enumerate(said)]


def _prompts(settings: Settings, context: Context) -> list[Prompt]:
    """The prompts that were asked for, each allowed. Raises InputError when one is refused or a
    list is empty."""
    if isinstance(settings.prompts, str):
        prompts = suite(settings.prompts, context.character, vocabulary_of(context.base_name))
    else:
        table = settings.prompts or free_table(context.character, vocabulary_of(context.base_name))
        for attribute, tags in table.items():
            if not tags:
                raise InputError(
                    f"stages.{context.name}.prompts.{attribute}", "[]", "list at least one tag"
                )
        prompts = matrix(table, context.character, settings.count, context.seed)
    for prompt in prompts:
        check_text(prompt.text["L"], f"stages.{context.name}.prompts")
    return prompts


def _chosen(
    paths: Sequence[Path], settings: Settings, inputs: Inputs, context: Context
) -> list[tuple[bool, str]]:
    """Look at the pictures and choose. Raises InputError without an identity model or enough
    references."""
    assert settings.keep is not None and settings.references is not None
    observers = settings.observers(context)
    if observers.identity is None:
        raise InputError(
            f"stages.{context.name}.identity",
            "none",
            "name the folder of an identity model; keep needs one",
        )
    cache, palette = context.scratch / "features", context.character.palette
    dataset = inputs.artifact(settings.references.stage)
    references, _ = load_references(
        dataset, settings.references.subset, observers, palette, cache, context.events
    )
    with context.events.task("look at pictures", total=len(paths)) as task:
        features = measure(paths, observers, palette, cache, task)
    try:
        return choose(features, references, settings.keep)
    except axes.Unavailable as why:
        raise InputError(
            f"stages.{context.name}.references", settings.references.stage, str(why)
        ) from why
