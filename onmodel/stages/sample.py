"""sample: generate pictures with a model, the base alone or an image service and, if wanted, keep
the best that differ: raw material for the next data set.

Prompts are a suite, lists of tags per attribute that are drawn in balanced rounds, or the scenes of
a describe stage. What is kept is not damaged, shows the character as surely as her held-out
references do, and is spread over layouts and tags; every picture says why it was kept or not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from onmodel.character import Character
from onmodel.curate.captioning import endpoint_of
from onmodel.curate.holes import scene_prompt
from onmodel.curate.painter import Painter
from onmodel.curate.scene import scenes_in
from onmodel.curate.settings import EndpointSettings
from onmodel.dataset.captions import split_tags
from onmodel.errors import InputError, ServiceError
from onmodel.evaluate import axes
from onmodel.evaluate.assess import load_references
from onmodel.evaluate.features import Features, measure
from onmodel.evaluate.observers import Observers
from onmodel.hashing import write_json
from onmodel.ledger.lineage import Lineage, add
from onmodel.policy import check_text
from onmodel.reading import LARGEST_WHOLE
from onmodel.records import Artifact
from onmodel.sample.pictures import PictureOrder, PictureRequest, render
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
    keep_file,
)
from onmodel.stages.choosing import captions, choose, density, faults_of, seen_tags
from onmodel.stages.describe import FOLDER as SCENES
from onmodel.stages.generating import PROMPTED, Generating
from onmodel.toon.base import TOON_BASES

MAKES: Kind = "pictures"
READS = Reads("sample", sheet=(*PROMPTED, "palette"), head=("seed", "threads"))


class Settings(Generating):
    """The settings of a sample stage."""

    do: Literal["sample"]
    model: str | None = Field(
        default=None, description="Model that draws. Unset: the base alone, or the endpoint."
    )
    prompts: SuiteName | dict[str, list[str]] | None = Field(
        default=None,
        description=(
            'Suite name, or attribute to a list of tags ("" asks for nothing). Unset: every '
            "free attribute is varied."
        ),
    )
    scenes: str | None = Field(
        default=None, description="Describe stage whose scenes are drawn in turn. Unset: prompts."
    )
    tags: tuple[int, int] | None = Field(
        default=None,
        description=(
            "Caption each picture with what the tagger sees: [fewest, most] tags beside the"
            " trigger. Unset: with what was asked."
        ),
    )
    endpoint: str | None = Field(
        default=None,
        description=(
            "OpenAI-compatible address of an image model that draws; the key is in"
            " OPENAI_API_KEY. Unset: the base draws."
        ),
    )
    image_model: str = Field(default="", description="What the endpoint calls its model.")
    at_once: int = Field(
        default=2, ge=1, le=64, description="Questions that are open at the endpoint at a time."
    )
    timeout: float = Field(
        default=120.0, gt=0, description="Seconds that the endpoint has for one picture."
    )
    count: int = Field(ge=1, description="Number of pictures.")
    seed: int = Field(default=0, ge=0, le=LARGEST_WHOLE, description="Seed of the noise.")
    keep: int | None = Field(
        default=None, ge=1, description="Number of best pictures kept. Unset: all."
    )
    agreement: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description=(
            "Least agreement with the references of a picture that is kept. Unset: what nine in ten"
            " of the references have among themselves."
        ),
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.keep is not None and self.references is None:
            raise ValueError('keep needs references = "<curate stage>" to judge by')
        if self.endpoint is not None and not self.image_model:
            raise ValueError("endpoint needs image_model, what it calls its model")
        if self.endpoint is not None and self.model is not None:
            raise ValueError("model and endpoint exclude each other; name one that draws")
        if self.endpoint is not None and not isinstance(self.size, int):
            raise ValueError("an endpoint draws squares; write size as one number")
        if self.scenes is not None and self.prompts is not None:
            raise ValueError("prompts and scenes exclude each other; name one of them")
        if self.tags is not None and not 2 <= self.tags[0] <= self.tags[1]:
            raise ValueError("tags is [fewest, most], e.g. [9, 11]")
        if self.agreement is not None and self.keep is None:
            raise ValueError("agreement decides what is kept; set keep too")
        if self.keep is not None and self.keep > self.count:
            raise ValueError(f"keep is more than count; {self.count} pictures are made")
        return self

    def named_stages(self) -> list[NamedStage]:
        model = [NamedStage("model", self.model, "model")] if self.model else []
        scenes = [NamedStage("scenes", self.scenes, "scenes")] if self.scenes else []
        return [*model, *scenes, *super().named_stages()]

    def check(self, base_name: str, character: Character) -> None:
        """Raises InputError for an endpoint that is none."""
        if self.endpoint is not None:
            self.painter(0)

    def keyed(self) -> dict[str, object]:
        return _without(super().keyed(), "at_once", "timeout")

    def told(self) -> dict[str, object]:
        return _without(super().told(), "at_once", "timeout")

    def painter(self, seed: int) -> Painter:
        """The image model behind the endpoint. Raises InputError for a wrong address."""
        assert self.endpoint is not None and isinstance(self.size, int)
        settings = EndpointSettings(
            endpoint=self.endpoint, model=self.image_model, timeout=self.timeout
        )
        return Painter(endpoint_of(settings), self.size, self.at_once, seed)


def _without(settings: dict[str, object], *names: str) -> dict[str, object]:
    return {name: value for name, value in settings.items() if name not in names}


def estimate(settings: Settings, before: Mapping[str, Plan]) -> Plan:
    """Generates `count` pictures."""
    counts = {"pictures": settings.keep or settings.count}
    if settings.endpoint is not None:
        address = settings.painter(0).endpoint.address
        notes = [f"asks {address} for {settings.count} pictures"]
        return Plan(counts=counts, notes=notes, missing=settings.missing)
    drawn = settings.sampling.drawn(settings.count)
    return Plan(pictures=settings.count, counts=counts, drawn=drawn, missing=settings.missing)


def run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    """Generate and choose. Raises InputError for a refused prompt, or for `keep` without references
    to judge by."""
    with settings.computing(context) as context:
        return _run(inputs, settings, context)


def _run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    _check_observers(settings, context)
    drawn = _drawn(inputs, settings, context)
    verdicts = [(True, "all were wanted")] * len(drawn.paths)
    tags = [captions(prompt, context.character) for prompt in drawn.prompts]
    if settings.keep is not None or settings.tags is not None:
        observers = settings.observers(context)
        features = _look(drawn.paths, observers, context)
        if settings.keep is not None:
            verdicts = _chosen(features, observers, settings, inputs, context)
        if settings.tags is not None:
            tags = _seen(features, observers, tags, settings, context)
            kept = [said for (said, _), (one, _) in zip(tags, verdicts, strict=True) if one]
            context.events.note(density([len(split_tags(said)) - 1 for said in kept] or [0]))
    rows = []
    for i, (path, (kept_one, reason)) in enumerate(zip(drawn.paths, verdicts, strict=True)):
        keep_file(path, context.out / "pictures" / path.name)
        rows.append(
            {
                "file": f"pictures/{path.name}",
                "prompt": drawn.texts[i],
                "tags": tags[i][0],
                "sentence": tags[i][1],
                "seed": drawn.seeds[i],
                "kept": kept_one,
                "reason": reason,
                "model_sha256": drawn.sha256,
            }
        )
    write_json(context.out / "pictures.json", rows)
    kept_count = sum(one for one, _ in verdicts)
    if settings.keep is not None and kept_count < settings.keep:
        few = (
            f"only {kept_count} of {len(rows)} pictures show the character well enough;"
            f" {settings.keep} were wanted"
        )
        context.events.note(few, "error")
    parents = [
        context.recipe(READS),
        *drawn.lineages,
        *(inputs.lineage(reference) for reference in settings.needs()),
    ]
    facts = {
        "model_sha256": drawn.sha256,
        "count": len(rows),
        "kept": kept_count,
        "settings": settings.told(),
    }
    return context.commit("pictures", add(parents, "pictures", name=context.name, **facts))


def _check_observers(settings: Settings, context: Context) -> None:
    """Raise InputError where what judges or captions pictures is missing, before any is drawn."""
    needed = {"identity": settings.keep, "tagger": settings.tags}
    toon = context.base_name in TOON_BASES
    for observer, wanted in needed.items():
        if wanted is not None and not toon and getattr(settings, observer) is None:
            what = "keep" if observer == "identity" else "tags"
            remedy = f"name the folder of one; {what} needs it"
            raise InputError(f"stages.{context.name}.{observer}", "none", remedy)


@dataclass(frozen=True)
class _Drawn:
    """The pictures that were made, what each was asked with, and who drew them: `sha256` is that of
    the model in origins, `lineages` its history beside those of the stages."""

    paths: Sequence[Path]
    prompts: Sequence[Prompt]
    texts: Sequence[str]
    seeds: Sequence[int]
    sha256: str
    lineages: Sequence[Lineage] = ()


def _drawn(inputs: Inputs, settings: Settings, context: Context) -> _Drawn:
    """Generate. Raises InputError for a refused prompt, ServiceError when a service makes none."""
    wanted = _wanted(inputs, settings, context)
    prompts = [prompt for prompt, _ in wanted]
    requests = [request for _, request in wanted]
    seeds = [request.seed for request in requests]
    if settings.endpoint is None:
        with context.events.task(f"pictures for {context.name}", total=len(requests)) as task:
            paths = render(
                context.family,
                context.base_sha256,
                requests,
                settings.sampling,
                context.pictures,
                task,
            )
        texts = [request.prompt for request in requests]
        if settings.model:
            return _Drawn(paths, prompts, texts, seeds, inputs.model(settings.model).sha256)
        return _Drawn(paths, prompts, texts, seeds, context.base_sha256, [context.base])
    painter = settings.painter(settings.seed)
    turns = len({prompt.id for prompt in prompts})
    rounds = [(prompt, place // turns) for place, prompt in enumerate(prompts)]
    made = painter.make(rounds, context.scratch / "drawn", context.events)
    there = [i for i, one in enumerate(made) if one.path is not None]
    for one in made:
        if one.path is None:
            context.events.note(f"{one.prompt.id}: not made: {one.why}", "warning")
    if not there:
        raise ServiceError(f"{painter.name}: none of {len(made)} pictures could be made")
    return _Drawn(
        [path for one in made if (path := one.path) is not None],
        [prompts[i] for i in there],
        [painter.words(prompts[i]) for i in there],
        [seeds[i] for i in there],
        painter.sha256,
        [painter.lineage],
    )


def drawings(inputs: Inputs, settings: Settings, context: Context) -> list[PictureOrder]:
    """The pictures that the stage will request of the base."""
    if settings.endpoint is not None:
        return []
    requests = [request for _, request in _wanted(inputs, settings, context)]
    return [PictureOrder(requests, settings.sampling, settings.modes)]


def _wanted(
    inputs: Inputs, settings: Settings, context: Context
) -> list[tuple[Prompt, PictureRequest]]:
    """The pictures with their prompts. Raises InputError for a refused prompt."""
    model = inputs.model(settings.model) if settings.model else None
    # The base does not know the trigger; it is told a scene without the list of things.
    arm = "L" if model else "D" if settings.scenes is None else "N"
    prompts = _prompts(inputs, settings, context)
    found = []
    for i in range(settings.count):
        number, place = divmod(i, len(prompts))
        prompt, suite_name = prompts[place], f"{context.name}/{context.seed}"
        seed = noise_seed(suite_name, prompt.id, settings.seed + number)
        found.append((prompt, PictureRequest(prompt.text[arm], prompt.negative, seed, model)))
    return found


def _prompts(inputs: Inputs, settings: Settings, context: Context) -> list[Prompt]:
    """The prompts that were asked for, each allowed. Raises InputError when one is refused or a
    list is empty."""
    if settings.scenes is not None:
        scenes = scenes_in(inputs.artifact(settings.scenes).path / SCENES)
        prompts = [
            scene_prompt(name, scene.prompt, context.character, bare=scene.description)
            for name, scene in scenes.items()
        ]
    elif isinstance(settings.prompts, str):
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
        for text in prompt.text.values():
            check_text(text, f"stages.{context.name}.prompts")
    return prompts


def _look(paths: Sequence[Path], observers: Observers, context: Context) -> Features:
    with context.events.task("look at pictures", total=len(paths)) as task:
        cache, palette = context.scratch / "features", context.character.palette
        return measure(paths, observers, palette, cache, task)


def _seen(
    features: Features,
    observers: Observers,
    asked: Sequence[tuple[str, str]],
    settings: Settings,
    context: Context,
) -> list[tuple[str, str]]:
    """Captions of what the tagger sees; the sentence says the same."""
    assert settings.tags is not None and observers.tagger is not None
    character, found = context.character, []
    fewest, most = (number - 1 for number in settings.tags)  # one is the count tag
    for row in features.tags:
        seen = seen_tags(row, observers.tagger.tags, character, fewest, most)
        sentence = f"{whom(character)} named {character.trigger}.{it_shows(seen)}"
        found.append((", ".join([character.count_tag, character.trigger, *seen]), sentence))
    return found


def _chosen(
    features: Features,
    observers: Observers,
    settings: Settings,
    inputs: Inputs,
    context: Context,
) -> list[tuple[bool, str]]:
    """Choose. Raises InputError without enough references."""
    assert settings.keep is not None and settings.references is not None
    cache, palette = context.scratch / "features", context.character.palette
    dataset = inputs.artifact(settings.references.stage)
    references, _ = load_references(
        dataset, settings.references.subset, observers, palette, cache, context.events
    )
    try:
        faults = faults_of(features, observers)
        return choose(features, references, settings.keep, faults, settings.agreement)
    except axes.Unavailable as why:
        raise InputError(
            f"stages.{context.name}.references", settings.references.stage, str(why)
        ) from why
