"""Pictures for what a data set shows too seldom: settings checked, gaps found, prompts written,
pictures generated and picked (synthesis.py)."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from onmodel.character import Character
from onmodel.curate.audit import Audit, run_audit
from onmodel.curate.endpoint import Endpoint
from onmodel.curate.holes import even, prompts_for, prompts_of_scenes
from onmodel.curate.lettering import load_reader
from onmodel.curate.makers import Maker, Sampler, lora_at
from onmodel.curate.painter import Painter
from onmodel.curate.scene import scenes_in
from onmodel.curate.settings import GeneratorSettings, ObserverSettings, SynthesisSettings
from onmodel.curate.synthesis import CandidateRow, Made, Order, synthesize
from onmodel.curate.targets import expected_vocabulary, parse_targets
from onmodel.curate.workshop import open_workshop
from onmodel.errors import InputError
from onmodel.evaluate.observers import load_observers
from onmodel.events import Events
from onmodel.families.registry import base_sha256, load_base, parse_base_rows, usual
from onmodel.paths import check_distinct, check_name
from onmodel.sample.sampling import Sampling
from onmodel.toon.base import toon_base


@dataclass(frozen=True)
class Filling:
    """A plan and what came of it. `wanted`: attribute → value → pictures; `made` is None for a dry
    run; `candidates` pictures are generated for the prompts."""

    wanted: Mapping[str, Mapping[str, int]]
    texts: Sequence[str]
    candidates: int
    audit: Audit
    maker: Maker
    made: Made | None

    @property
    def got(self) -> dict[str, dict[str, int]]:
        """Attribute → value → pictures that were added with it."""
        picked = [row for row in self.made.rows if row["picked"]] if self.made else []
        found: dict[str, dict[str, int]] = {}
        for name, values in self.wanted.items():
            found[name] = {value: _count(picked, name, value) for value in values}
        return found

    def as_dict(self) -> dict[str, object]:
        """As JSON values: the plan of a dry run, else what was made."""
        if self.made is None:
            return {
                "wanted": self.wanted,
                "prompts": list(self.texts),
                "candidates": self.candidates,
            }
        return {
            "pictures": [piece.name for piece in self.made.pieces],
            "wanted": self.wanted,
            "got": self.got,
            "candidates": len(self.made.rows),
            "refused": dict(self.made.refusals),
        }


def _count(rows: Sequence[CandidateRow], name: str, value: str) -> int:
    return sum(row["values"].get(name) == value for row in rows)


@dataclass(frozen=True)
class Generator:
    """What generates: a base as on the command line (None for the toon base), its settings, and
    the observers that judge."""

    base: Sequence[str] | None
    settings: GeneratorSettings
    observers: ObserverSettings

    def check(self) -> bool:
        """True where the toon world's own observers judge. Raises InputError for settings that
        exclude each other, and for observers that are missing."""
        self.settings.check(list(self.base or []) or None)
        named = self.observers.tagger, self.observers.identity
        toon = not any(named) if self.settings.endpoint else bool(toon_base(self.base))
        if not toon and not all(named):
            raise InputError(
                "--tagger",
                self.observers.tagger or "missing",
                "name --tagger and --identity; the toon observers judge toon pictures only",
            )
        return toon

    def maker(self, toon: bool) -> Maker:
        """Raises InputError for a base, a LoRA or an endpoint that is wrong."""
        own = self.settings
        if own.endpoint:
            key = os.environ.get("OPENAI_API_KEY", "")
            endpoint = Endpoint(own.endpoint, own.model, key, own.timeout)
            return Painter(endpoint, own.size or 1024, own.at_once, own.seed)
        model = lora_at(own.lora) if own.lora else None
        settings = parse_base_rows(self.base or ["toon"])
        sha256 = base_sha256(settings)
        name = toon_base(self.base) or settings.hub or settings.family
        side = own.size or (96 if toon else 1024)
        sampling = Sampling(
            own.steps or (16 if toon else usual(settings.family).steps),
            own.guidance or (3.0 if toon else usual(settings.family).guidance),
            weight=own.weight,
            width=side,
            height=side,
            batch=own.batch,
        )
        load = cache(lambda: load_base(settings, sha256))
        return Sampler(load, name, sha256, model, sampling, own.seed)


def fill_gaps(
    work: Path,
    character: Character,
    settings: SynthesisSettings,
    generator: Generator,
    events: Events,
    dry_run: bool = False,
) -> Filling:
    """Generate pictures for under-represented attributes, filter them and add the best with labels,
    as one step. Raises InputError for wrong settings before an observer is loaded."""
    workshop = open_workshop(work)
    check_name(settings.subset, "--subset")
    subsets = dict.fromkeys(piece.subset for piece in workshop.pieces.values())
    check_distinct([*subsets, settings.subset], "--subset")
    toon = generator.check()
    expected = expected_vocabulary(workshop, character, generator.observers)
    targets = parse_targets(settings.target, expected)
    scenes = scenes_in(settings.scenes) if settings.scenes else {}
    maker = generator.maker(toon)
    named = {"tagger": generator.observers.tagger, "identity": generator.observers.identity}
    observers = load_observers("toon" if toon else "", named, 1)
    audit = run_audit(workshop, character, observers, events, load_reader(1))
    targets = targets or even(audit.vocabulary, character.free)
    seed = generator.settings.seed
    prompts, wanted = prompts_for(
        audit.coverage, audit.vocabulary, targets, character, settings.count, seed
    )
    if scenes:
        told = {name: scene.prompt for name, scene in scenes.items()}
        prompts = prompts_of_scenes(told, audit.vocabulary, character, settings.count)
    made = None
    if not dry_run:
        order = Order(prompts, wanted, settings)
        made = synthesize(workshop, audit, observers, character, maker, order, events)
    texts = [maker.words(prompt) for prompt in prompts]
    return Filling(wanted, texts, len(prompts) * settings.tries, audit, maker, made)
