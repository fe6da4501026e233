"""curate: make one data set of named subsets from toon sets, folders, other trainers' data sets,
generated pictures and earlier data sets.

Pictures and captions are checked, near-duplicates are found (copies, crops, mirrored pictures, one
scene with a detail changed), and some pictures are held out. Originals are not changed. Refused
files are listed in the manifest with the reason.
"""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from onmodel.character import Character
from onmodel.curate.caption_files import tables_above
from onmodel.curate.collect import Offer, collect
from onmodel.curate.confirm import confirm_labels
from onmodel.curate.dataset_facts import (
    dataset_facts,
    report_refused,
    report_subsets,
    warn_self_training,
)
from onmodel.curate.duplicates import find_links, group_links
from onmodel.curate.ingest import SourcePicture, folder_hash, scan_folder
from onmodel.curate.listing import MASK_FOLDERS
from onmodel.curate.other_tools.options import (
    ForeignDataset,
    ForeignSubset,
    subset_configs,
    subsets_by_name,
)
from onmodel.curate.other_tools.registry import READERS
from onmodel.curate.other_tools.sd_scripts import unread_repeats
from onmodel.curate.provenance import (
    known_at,
    makers_of,
    own_ancestors,
    self_taught,
)
from onmodel.curate.source_settings import SourceSettings
from onmodel.curate.sources import (
    folder_pictures,
    sampled_pictures,
    scan_notes,
    shuffled,
    subset_pictures,
    toon_pictures,
)
from onmodel.curate.split import split
from onmodel.curate.tagging import load_tagger, tag_items, tagger_hash
from onmodel.dataset.manifest import Config, Refusal, SubsetRow, write_manifest
from onmodel.errors import InputError
from onmodel.evaluate.observers.source import SCHEME, own, wrong
from onmodel.hashing import sha256_file
from onmodel.ledger.lineage import Lineage, add
from onmodel.paths import check_distinct, check_name, inside
from onmodel.reading import path_cure
from onmodel.records import Artifact, Item
from onmodel.stages.base import Context, Inputs, Kind, NamedStage, Plan, Reads, StageSettings
from onmodel.toon.base import TOON_BASES
from onmodel.toon.datasets import STANDIN_SETS

MAKES: Kind = "dataset"
READS = Reads("curate", sheet=("trigger",), head=("seed",))
ASSUMED = 20  # pictures in a folder that is not there yet


class PictureSource(StageSettings, SourceSettings):
    """A source in a recipe; its key holds the content of its folders."""

    def contents(self) -> dict[str, object]:
        """Hashes of the folder's files, of its masks, and of its provenance.json."""
        known = known_at(self.folder) if self.folder else None
        return {
            "folder": self.pictures,
            "masks": folder_hash(self.masks) if self.masks else self._own_masks(),
            "known": sha256_file(known) if known else None,
            "tables": [sha256_file(path) for path in tables_above(self.folder)]
            if self.folder
            else [],
            "tagger": tagger_hash(str(self.tagger)) if self.tagger else None,
        }

    def _own_masks(self) -> str | None:
        """Hash of the folder of masks inside the folder, where one is."""
        inside = [self.folder / name for name in MASK_FOLDERS] if self.folder else []
        return next((folder_hash(folder) for folder in inside if folder.is_dir()), None)

    @property
    def pictures(self) -> str | None:
        """Hash of the folder's files."""
        return folder_hash(self.folder) if self.folder else None


class Settings(StageSettings):
    """The settings of a curate stage. A train stage without `data` follows the repeats, caption
    rules and sizes of other trainers' files."""

    do: Literal["curate"]
    dataset_config: Path | None = Field(
        default=None,
        description=(
            "Data set file of sd-scripts, musubi-tuner, diffusion-pipe or ai-toolkit. Each of its "
            "folders becomes a subset."
        ),
    )
    train_data_dir: Path | None = Field(
        default=None,
        description=(
            "Folder of sd-scripts' `10_name` folders. Each becomes a subset with its repeats."
        ),
    )
    reg_data_dir: Path | None = Field(
        default=None, description="The same for regularisation pictures."
    )
    subsets: dict[str, list[PictureSource]] = Field(
        default_factory=dict, description="Subset name to a list of sources."
    )
    purposes: dict[str, str] = Field(
        default_factory=dict,
        description="Subset name to what it is for; shown on pages and in the history.",
    )
    heldout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description=(
            "Share of each subset (0–1) that is never trained on. Near-duplicates stay together."
        ),
    )
    heldout_subsets: list[str] = Field(
        default_factory=list, description="Subsets that are never trained on."
    )
    strict: list[str] = Field(
        default_factory=list,
        description=(
            "Subsets in which a label that the tagger does not confirm is left out of the caption."
        ),
    )
    tagger: Annotated[str, Field(pattern=f"^{SCHEME}")] | Path | None = Field(
        default=None,
        description=(
            "Tagger of `strict`, in WD v3 format: a folder or hf://owner/name. Unset: the toon"
            " base's own."
        ),
    )

    @field_validator("dataset_config", "train_data_dir", "reg_data_dir")
    @classmethod
    def _written_as_meant(cls, path: Path | None) -> Path | None:
        if path is not None and (cure := path_cure(str(path))):
            raise ValueError(cure)
        return path

    @field_validator("subsets")
    @classmethod
    def _not_empty(cls, subsets: dict[str, list[PictureSource]]) -> dict[str, list[PictureSource]]:
        check_distinct(subsets, "subsets")
        for name, sources in subsets.items():
            check_name(name, "subsets")
            if not sources:
                raise ValueError(
                    f'{name} has no source; give it one, e.g. {{ folder = "pictures" }}'
                )
        return subsets

    @model_validator(mode="after")
    def _known_subsets(self) -> Self:
        if not self.sources:
            raise ValueError("name at least 1 subset, or a dataset_config or train_data_dir")
        for name in [*self.purposes, *self.heldout_subsets, *self.strict]:
            if name not in self.sources:
                raise ValueError(f"no subset {name!r}; there are {', '.join(self.sources)}")
        if self.tagger is not None and not self.strict:
            raise ValueError("tagger belongs to strict; name its subsets, or delete it")
        return self

    def check(self, base_name: str, character: Character) -> None:
        if self.strict and self.tagger is None and base_name not in TOON_BASES:
            remedy = 'needs a tagger, e.g. tagger = "hf://SmilingWolf/wd-vit-tagger-v3"'
            raise InputError("strict", ", ".join(self.strict), remedy)
        if self.tagger is not None and (error := wrong("tagger", str(self.tagger))):
            raise error

    def keyed(self) -> dict[str, object]:
        return self._of_bytes(super().keyed())

    def told(self) -> dict[str, object]:
        return self._of_bytes(super().told())

    def _of_bytes(self, settings: dict[str, object]) -> dict[str, object]:
        """Without the settings of strict labels where none are, so that what was made before these
        settings existed is found."""
        unused = () if self.strict else ("strict", "tagger")
        return {name: value for name, value in settings.items() if name not in unused}

    @cached_property
    def foreign(self) -> dict[str, ForeignDataset]:
        """Setting → the other trainer's data set that it names. Raises InputError."""
        return {
            name: read(path)
            for name, read in READERS.items()
            if (path := getattr(self, name)) is not None
        }

    @cached_property
    def imported(self) -> dict[str, ForeignSubset]:
        """Name → subset of those data sets. Raises InputError for a name that is used twice."""
        return subsets_by_name(self.foreign, self.subsets)

    @cached_property
    def sources(self) -> dict[str, list[PictureSource]]:
        """Subset → its sources, including those of other trainers' files."""
        imported = {}
        for name, subset in self.imported.items():
            reading = subset.reading.model_dump(exclude_unset=True)
            if subset.config.regularisation:
                reading.setdefault("default_caption", "")  # never the trigger
            imported[name] = [PictureSource(folder=subset.folder, **reading)]
        return imported | self.subsets

    @property
    def folders(self) -> list[Path]:
        """The folders of all sources."""
        return [row.folder for rows in self.sources.values() for row in rows if row.folder]

    def contents(self) -> dict[str, object]:
        """The pictures of every source; for another trainer's file its settings and pictures."""
        found: dict[str, object] = {}
        for setting, foreign in self.foreign.items():
            rows = []
            for one in foreign.subsets:
                source = self.sources[one.name][0].keyed()
                rows.append([one.name, source, one.config.model_dump(mode="json"), one.heldout])
            found[setting] = {"even": foreign.even_regularisation, "subsets": rows}
        found["subsets"] = {
            name: list(map(PictureSource.keyed, sources)) for name, sources in self.subsets.items()
        }
        if self.strict:
            found["tagger"] = tagger_hash(str(self.tagger or own("tagger").folder))
        return found

    def shown(self, counts: Mapping[str, int]) -> dict[str, Config]:
        """Subset → the settings that another trainer's file gives it; `counts`: subset →
        pictures."""
        configs = subset_configs(self.foreign.values(), counts)
        return {name: config.model_dump(mode="json") for name, config in configs.items()}

    @property
    def whole_heldout(self) -> list[str]:
        """Subsets that are never trained on."""
        imported = [name for name, subset in self.imported.items() if subset.heldout == 1]
        return [*self.heldout_subsets, *imported]

    def share_heldout(self, subset: str) -> float:
        """The share of a subset that is held out (0–1)."""
        imported = self.imported[subset].heldout if subset in self.imported else None
        return self.heldout if imported is None else imported

    @property
    def notes(self) -> list[str]:
        """The options of other trainers' files that have no effect, or another one, here."""
        notes = [note for foreign in self.foreign.values() for note in foreign.notes]
        for name, sources in self.subsets.items():
            for source in sources:
                if source.folder and (note := unread_repeats(source.folder)):
                    notes.append(f"{name}: {note}")
        for name, sources in self.sources.items():
            for source in sources:
                if source.folder and source.folder.exists():
                    scan = scan_folder(source.folder, "", source)
                    lines = scan_notes(scan, str(source.tagger or ""))
                    notes += [f"{name}: {line}" for line in lines]
        return notes

    def named_stages(self) -> list[NamedStage]:
        found = []
        for name, rows in self.subsets.items():
            for source in rows:
                if source.stage is not None:
                    found.append(NamedStage(f"subsets.{name}.stage", source.stage, "pictures"))
                if source.dataset is not None:
                    field = f"subsets.{name}.dataset"
                    found.append(NamedStage(field, source.dataset, "dataset", source.subset))
        return found

    def purpose(self, subset: str) -> str:
        """The purpose of a subset: from the recipe, else from its toon set."""
        toon = next((source.toon for source in self.sources[subset] if source.toon), None)
        return self.purposes.get(subset) or (STANDIN_SETS[toon].purpose if toon else "")


def estimate(settings: Settings, before: Mapping[str, Plan]) -> Plan:
    """Pictures per subset; a folder that is not there yet counts as 20."""
    counts, sentences = dict.fromkeys(settings.sources, 0), dict.fromkeys(settings.sources, 0)
    for name, sources in settings.sources.items():
        for source in sources:
            counts[name] += expected(source, before)
            if source.folder and source.folder.exists():
                found = scan_folder(source.folder, "", source).pictures
                sentences[name] += sum(bool(picture.sentence) for picture in found)
    remedy = f"no such folder; make it, or correct the path (a plan counts {ASSUMED} pictures)"
    missing = tuple(
        InputError("folder", folder, remedy)
        for folder in dict.fromkeys(settings.folders)
        if not folder.exists()
    )
    return Plan(
        counts=counts,
        shown=settings.shown(counts),
        heldout=settings.whole_heldout,
        sentences=sentences,
        notes=settings.notes,
        missing=missing,
    )


def expected(source: PictureSource, before: Mapping[str, Plan]) -> int:
    """How many pictures a source gives, as the plans say it."""
    if source.toon:
        return source.count or STANDIN_SETS[source.toon].count
    if source.folder:
        found = (
            len(scan_folder(source.folder, "", source).pictures)
            if source.folder.exists()
            else ASSUMED
        )
    elif source.stage:
        plan = before[source.stage]
        found = sum(plan.counts.values()) or plan.pictures
    else:
        found = before[str(source.dataset)].counts[str(source.subset)]
    return min(found, source.count or found)


def run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    """Make the data set. Raises InputError when a subset has no picture left."""
    shutil.rmtree(context.out)  # an earlier attempt may have seen other files in a folder
    refused: list[Refusal] = []
    offers = _offers(inputs, settings, context, refused)
    total = sum(len(offer.pictures) for offer in offers)
    with context.events.task(f"read {context.name}", total) as task:
        found = collect(offers, context.out, refused, task)
    report_refused(refused, context.events)
    found.check_subsets(settings.sources, f"stages.{context.name}.subsets")
    for line in found.check_masks(f"stages.{context.name}.subsets"):
        context.events.note(line, "warning")
    for tagger, untagged in found.untagged.items():
        found.items = tag_items(
            found.items, untagged, context.out, load_tagger(tagger), context.events
        )
    if settings.strict:
        judge = load_tagger(str(settings.tagger or own("tagger").folder))
        found.items = confirm_labels(
            found.items, settings.strict, context.out, judge, context.events
        )
    with context.events.task(f"compare {context.name}", total=2 * len(found.items)) as task:
        links = find_links(found.thumbs, task)
    items = split(
        found.items,
        group_links(len(found.items), links),
        {name: settings.share_heldout(name) for name in settings.sources},
        settings.whole_heldout,
        context.seed,
    )
    subsets = write_manifest(
        context.out,
        items,
        {name: settings.purpose(name) for name in settings.sources},
        refused,
        settings.shown(Counter(item.subset for item in items)),
    )
    report_subsets(subsets, context.events)
    return context.commit("dataset", _lineage(items, subsets, inputs, settings, context))


def _offers(
    inputs: Inputs, settings: Settings, context: Context, refused: list[Refusal]
) -> list[Offer]:
    """The pictures of every source. Files that scanning refuses are added to `refused`."""
    offers = []
    for subset, sources in settings.sources.items():
        for i, source in enumerate(sources):
            pictures = _pictures(source, f"{subset}-{i}", inputs, context, refused)
            # Another trainer's data sets may share pictures.
            pool = subset if subset in settings.imported else ""
            tagger = str(source.tagger) if source.tagger else None
            trusted = source.folder is None
            offers.append(Offer(subset, pictures, source.count, pool, trusted, tagger))
    return offers


def _pictures(
    source: PictureSource, name: str, inputs: Inputs, context: Context, refused: list[Refusal]
) -> list[SourcePicture]:
    """What a source offers, in the order in which it is taken: a toon set as it was written,
    anything with a `count` shuffled."""
    if source.toon:
        folder = inside(context.scratch / "toon", name, "subsets")
        return toon_pictures(source.toon, folder, source.count)
    if source.folder:
        scan = folder_pictures(source.folder, source, context.character.trigger)
        found = scan.pictures
        refused += scan.refused
        for note in scan_notes(scan, str(source.tagger or "")):
            context.events.note(f"{name.rpartition('-')[0]}: {note}")
    elif source.stage:
        found = sampled_pictures(inputs.artifact(source.stage).path)
    else:
        found = subset_pictures(inputs.artifact(str(source.dataset)).path, str(source.subset))
    if source.count is None:
        return found
    place = source.pictures or source.stage or f"{source.dataset}/{source.subset}"
    return shuffled(found, context.seed, place)


def _lineage(
    items: Sequence[Item],
    subsets: Mapping[str, SubsetRow],
    inputs: Inputs,
    settings: Settings,
    context: Context,
) -> Lineage:
    """The data set's node. Its parents: the recipe, the stages it reads, and the models that made
    pictures."""
    origins = [item.origin for item in items]
    makers = makers_of(origins, settings.folders)
    stages = [inputs.lineage(name) for name in settings.needs()]
    parents = [context.recipe(READS), *stages, *makers.values()]
    own = own_ancestors(parents, makers, context.character.trigger, context.base_sha256)
    taught = self_taught([item.subset for item in items], origins, own)
    warn_self_training(taught, context.events)
    facts = dataset_facts(items, subsets, taught)
    return add(parents, "dataset", name=context.name, **facts, settings=settings.told())
