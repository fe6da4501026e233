"""curate: from toon sets, folders, other trainers' data sets, generated pictures and older data
sets to one data set of named subsets.

Pictures and captions are checked, repeats of one picture found (copies, cut-outs, mirrored ones,
one scene with a detail changed), and some pictures held out. Nothing is judged by taste here and no
original is changed; what is refused stands in the manifest with its reason.
"""

import dataclasses
import difflib
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from onmodel.curate.duplicates import Thumb, find_links, group_links
from onmodel.curate.ingest import Reading, SourcePicture, check, folder_hash, scan_folder
from onmodel.curate.other_tools.options import ForeignDataset, ForeignSubset
from onmodel.curate.other_tools.registry import READERS
from onmodel.curate.provenance import (
    SELF_TAUGHT,
    known_at,
    model_of,
    own_models,
    read_known,
    self_taught,
)
from onmodel.dataset.decoder import Decoder
from onmodel.dataset.decoding import DecodedPicture, Refused, decode
from onmodel.dataset.manifest import Refusal, leaf, read_items, write_manifest
from onmodel.dataset.merkle import merkle_root
from onmodel.dataset.pixels import WHITE
from onmodel.errors import InputError
from onmodel.events import first
from onmodel.hashing import read_json, sha256_file, write_atomic
from onmodel.ledger.lineage import Lineage, add, ancestors
from onmodel.paths import check_distinct, check_name, inside
from onmodel.randomness import generator
from onmodel.records import Artifact, Item
from onmodel.stages.base import Context, Inputs, Plan, Reads, StageSettings
from onmodel.toon.datasets import STANDIN_SETS, write_set

READS = Reads("curate", sheet=("trigger",), head=("seed",))
SHOWN_REFUSALS = 5
ASSUMED = 20  # pictures in a folder that is not there yet


class PictureSource(StageSettings, Reading):
    """Where pictures of a subset come from: exactly one of `toon`, `folder`, `stage` or `dataset`.

    A picture is taken once per data set. The settings about captions and masks go with `folder`.
    """

    toon: str | None = Field(default=None, description="Name of a toon set.")
    folder: Path | None = Field(default=None, description="Folder of pictures with caption files.")
    stage: str | None = Field(
        default=None, description="Sample stage whose kept pictures are taken."
    )
    dataset: str | None = Field(
        default=None, description="Curate stage to take pictures from; needs `subset`."
    )
    subset: str | None = Field(default=None, description="Subset of `dataset`.")
    count: int | None = Field(
        default=None, ge=1, description="Largest number of pictures taken. Unset: all."
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (
            sum(value is not None for value in (self.toon, self.folder, self.stage, self.dataset))
            != 1
        ):
            raise ValueError(
                "a source is one of { toon = … }, { folder = … }, { stage = … }, { dataset = …,"
                " subset = … }"
            )
        said = sorted(
            name
            for name, field in Reading.model_fields.items()
            if getattr(self, name) != field.get_default()
        )
        if self.folder is None and said:
            raise ValueError(
                f"{said[0]} is about how a folder is read; it goes with {{ folder = … }}"
            )
        if (self.dataset is None) != (self.subset is None):
            raise ValueError(
                'dataset and subset go together: { dataset = "older", subset = "base" }'
            )
        if self.toon is not None and self.toon not in STANDIN_SETS:
            near = difflib.get_close_matches(self.toon, STANDIN_SETS, n=1)
            raise ValueError(
                f"did you mean {near[0]!r}?" if near else f"toon sets are {', '.join(STANDIN_SETS)}"
            )
        return self

    def contents(self) -> dict[str, Any]:
        """The files of the folder and of its masks, and what is known of them."""
        known = known_at(self.folder) if self.folder else None
        return {
            "folder": self.pictures,
            "masks": folder_hash(self.masks) if self.masks else None,
            "known": sha256_file(known) if known else None,
        }

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
            "Data set file of sd-scripts, diffusion-pipe or ai-toolkit. Each of its folders "
            "becomes a subset."
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
            raise ValueError(
                "name at least 1 subset, or a dataset_config or train_data_dir to take them from"
            )
        for name in [*self.purposes, *self.heldout_subsets]:
            if name not in self.sources:
                raise ValueError(f"no subset {name!r}; there are {', '.join(self.sources)}")
        return self

    @cached_property
    def foreign(self) -> dict[str, ForeignDataset]:
        """What was described for other trainers, by the setting that names it. Raises
        InputError."""
        return {
            name: read(path)
            for name, read in READERS.items()
            if (path := getattr(self, name)) is not None
        }

    @cached_property
    def imported(self) -> dict[str, ForeignSubset]:
        """The subsets of those, by name. Raises InputError when a name stands twice."""
        found: dict[str, ForeignSubset] = {}
        for setting, foreign in self.foreign.items():
            for subset in foreign.subsets:
                if subset.name in found or subset.name in self.subsets:
                    raise InputError(
                        setting,
                        subset.name,
                        "there is another subset of that name; rename a folder",
                    )
                found[subset.name] = subset
        return found

    @cached_property
    def sources(self) -> dict[str, list[PictureSource]]:
        """Subset → its sources, those of other trainers' files too."""
        imported = {
            name: [
                PictureSource(folder=subset.folder, **subset.reading.model_dump(exclude_unset=True))
            ]
            for name, subset in self.imported.items()
        }
        return imported | self.subsets

    def contents(self) -> dict[str, Any]:
        """The pictures of every source; for another trainer's file what it says, and the pictures
        that it names."""
        said: dict[str, Any] = {
            setting: {
                "even": foreign.even_regularisation,
                "subsets": [
                    [
                        one.name,
                        self.sources[one.name][0].keyed(),
                        one.config.model_dump(mode="json"),
                        one.heldout,
                    ]
                    for one in foreign.subsets
                ],
            }
            for setting, foreign in self.foreign.items()
        }
        return said | {
            "subsets": {name: [row.keyed() for row in rows] for name, rows in self.subsets.items()}
        }

    def shown(self, counts: Mapping[str, int]) -> dict[str, dict[str, Any]]:
        """Subset → what is said of how it is shown, for subsets of so many pictures.

        Where regularisation pictures are to be as many as the others, their repeats are what comes
        nearest.
        """
        shown = {name: subset.config for name, subset in self.imported.items()}
        others = sum(
            counts.get(name, 0) * row.repeats
            for name, row in shown.items()
            if not row.regularisation
        )
        for foreign in self.foreign.values():
            own = [subset.name for subset in foreign.subsets if subset.config.regularisation]
            pictures = sum(counts.get(name, 0) for name in own)
            if foreign.even_regularisation and others and pictures:
                even = {"repeats": max(1, round(others / pictures))}
                shown |= {name: shown[name].model_copy(update=even) for name in own}
        return {name: row.model_dump(mode="json") for name, row in shown.items()}

    @property
    def whole_heldout(self) -> list[str]:
        """Subsets that are never trained on."""
        return [
            *self.heldout_subsets,
            *(name for name, subset in self.imported.items() if subset.heldout == 1),
        ]

    def share_heldout(self, subset: str) -> float:
        said = self.imported[subset].heldout if subset in self.imported else None
        return self.heldout if said is None else said

    @property
    def notes(self) -> list[str]:
        """What of other trainers' files has no effect, or another one, here."""
        notes = [note for foreign in self.foreign.values() for note in foreign.notes]
        for name, sources in self.subsets.items():
            for folder in (source.folder for source in sources if source.folder is not None):
                if match := re.match(r"(\d+)_", folder.name):
                    notes.append(
                        f"{name}: the {match[1]} in {folder.name} is not read as repeats here;"
                        f" write repeats = {match[1]} in `data`, or name the folder around it as"
                        " train_data_dir"
                    )
        return notes

    def needs(self) -> list[str]:
        sources = [source for rows in self.subsets.values() for source in rows]
        named = (source.dataset if source.stage is None else source.stage for source in sources)
        return list(dict.fromkeys(name for name in named if name is not None))

    def purpose(self, subset: str) -> str:
        """What a subset is for: as said in the recipe, else what its toon set says of itself."""
        toon = next((source.toon for source in self.sources[subset] if source.toon), None)
        return self.purposes.get(subset) or (STANDIN_SETS[toon].purpose if toon else "")


def estimate(settings: Settings, before: Mapping[str, Plan]) -> Plan:
    """Pictures per subset; a folder that is not there yet counts as 20. Raises InputError for an
    unknown subset."""
    counts = {
        name: sum(_expected(source, before) for source in rows)
        for name, rows in settings.sources.items()
    }
    folders = dict.fromkeys(
        source.folder for rows in settings.sources.values() for source in rows if source.folder
    )
    missing = tuple(
        InputError(
            "folder",
            folder,
            f"no such folder; make it, or correct the path (a plan counts {ASSUMED} pictures)",
        )
        for folder in folders
        if not folder.exists()
    )
    return Plan(
        counts=counts,
        shown=settings.shown(counts),
        heldout=settings.whole_heldout,
        notes=settings.notes,
        missing=missing,
    )


def _expected(source: PictureSource, before: Mapping[str, Plan]) -> int:
    if source.toon:
        return source.count or STANDIN_SETS[source.toon].count
    if source.folder:
        found = (
            len(scan_folder(source.folder, "", source)[0]) if source.folder.exists() else ASSUMED
        )
    elif source.stage:
        plan = before[source.stage]
        found = sum(plan.counts.values()) or plan.pictures
    else:
        counts = before[str(source.dataset)].counts
        if (subset := str(source.subset)) not in counts:
            raise InputError(
                "subset",
                subset,
                f"subsets of {source.dataset}: {', '.join(counts) or 'none; name a curate stage'}",
            )
        found = counts[subset]
    return min(found, source.count or found)


def run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    """Make the data set. Raises InputError when a subset is left without a picture."""
    shutil.rmtree(context.out)  # an earlier attempt may have seen other files in a folder
    refused: list[Refusal] = []
    offers = [
        (subset, source, _offer(source, f"{subset}-{i}", inputs, context, refused))
        for subset, sources in settings.sources.items()
        for i, source in enumerate(sources)
    ]
    items: list[Item] = []
    thumbs: list[Thumb] = []
    taken: set[tuple[str, Path]] = set()
    written: dict[str, str] = {}  # file of the data set → its SHA-256
    total = sum(len(offer) for _, _, offer in offers)
    with context.events.task(f"read {context.name}", total) as task, Decoder() as decoder:
        for subset, source, offer in offers:
            inside = {item.content for item in items if item.subset == subset}
            place = (
                subset if subset in settings.imported else ""
            )  # another trainer's data sets may share pictures
            count = 0
            for candidate in offer:
                task.advance()
                if (place, candidate.path) in taken or count == source.count:
                    continue
                try:
                    picture, mask = check(candidate, decode if source.folder is None else decoder)
                    item = _item(candidate, picture, mask, subset)
                    if item.content in inside:
                        raise Refused(f"the same picture is in {subset} already")
                except Refused as reason:
                    refused.append(Refusal(candidate.name, str(reason)))
                    continue
                sha256 = written.setdefault(item.image, picture.sha256)
                items.append(dataclasses.replace(item, sha256=sha256))
                if sha256 == picture.sha256:  # else the same pixels lie there already
                    write_atomic(context.out / item.image, picture.data)
                if mask is not None:
                    write_atomic(context.out / item.mask, mask.data)
                thumbs.append(Thumb(picture.width / picture.height, np.asarray(picture.small)))
                taken.add((place, candidate.path))
                inside.add(item.content)
                count += 1
    _say_refused(refused, context)
    for subset in settings.sources:
        if not any(item.subset == subset for item in items):
            why = f"; the first: {refused[0].file}, {refused[0].reason}" if refused else ""
            raise InputError(
                f"stages.{context.name}.subsets.{subset}",
                "no picture",
                f"nothing remains of it{why}",
            )
    with context.events.task(f"compare {context.name}", total=2 * len(items)) as task:
        links = find_links(thumbs, task)
    items = _split(items, group_links(len(items), links), settings, context.seed)
    purposes = {name: settings.purpose(name) for name in settings.sources}
    manifest = write_manifest(
        context.out,
        items,
        purposes,
        refused,
        settings.shown(Counter(item.subset for item in items)),
    )
    for name, row in manifest["subsets"].items():
        held = f", {row['heldout']} of them held out" if row["heldout"] else ""
        context.events.row(
            "subsets",
            f"{name}: {row['count']} pictures{held}",
            subset=name,
            pictures=row["count"],
            heldout=row["heldout"],
        )
    makers = _makers(items, settings)
    parents = [
        context.recipe(READS),
        *(inputs.lineage(name) for name in settings.needs()),
        *makers.values(),
    ]
    counts = {
        name: {"count": row["count"], "heldout": row["heldout"]}
        for name, row in manifest["subsets"].items()
    }
    for name, own in _self_taught(items, parents, makers, context).items():
        counts[name]["self_taught"] = own
    origins = dict(sorted(Counter(item.origin for item in items).items()))
    facts = {
        "root": merkle_root(map(leaf, items)),
        "subsets": counts,
        "origins": origins,
        "settings": settings.told(),
    }
    return context.commit("dataset", add(parents, "dataset", name=context.name, **facts))


def _offer(
    source: PictureSource, name: str, inputs: Inputs, context: Context, refused: list[Refusal]
) -> list[SourcePicture]:
    """What a source has, in the order in which it is taken: a toon set as it was dealt, anything
    else shuffled.

    Two sources that draw on the same place shuffle it alike, so with `taken` they share it out.
    """
    if source.toon:
        folder = inside(context.scratch / "toon", name, "subsets")
        shutil.rmtree(folder, ignore_errors=True)
        write_set(source.toon, folder, count=source.count)
        return scan_folder(folder, "toon")[0]
    if source.folder:
        found, bad = scan_folder(source.folder, f"folder:{source.folder.name}", source)
        refused += bad
        known = read_known(source.folder)
        found = [_as_known(candidate, known.of(candidate.path)) for candidate in found]
    elif source.stage:
        folder = inputs.artifact(source.stage).path
        found = [
            SourcePicture(
                folder / row["file"],
                row["tags"],
                row["sentence"],
                f"generated:{row['model_sha256']}",
            )
            for row in read_json(folder / "pictures.json")
            if row["kept"]
        ]
    else:
        folder = inputs.artifact(str(source.dataset)).path
        rows = [item for item in read_items(folder) if item.subset == source.subset]
        found = [_again(item, folder) for item in rows]
    if source.count is None:
        return found
    # The folder's content, not its path: the same recipe chooses the same pictures wherever it
    # lies.
    place = str(source.pictures or source.stage or f"{source.dataset}/{source.subset}")
    return [
        found[i] for i in generator(context.seed, "choose pictures", place).permutation(len(found))
    ]


def _as_known(candidate: SourcePicture, row: Mapping[str, Any]) -> SourcePicture:
    """A picture with the origin, right and paper that its folder's provenance.json tells."""
    if not row or sha256_file(candidate.path) != row["sha256"]:
        return candidate
    told = row["origin"] if model_of(row["origin"]) else f"told:{row['origin']} ({row['rights']})"
    reading = candidate.reading.model_copy(update={"paper": row["paper"]} if row["paper"] else {})
    return dataclasses.replace(candidate, origin=told, reading=reading)


def _again(item: Item, folder: Path) -> SourcePicture:
    """A picture of an older data set, with all that was said of it."""
    own = item.mask == "alpha"
    mask = folder / item.mask if item.mask and not own else None
    return SourcePicture(
        folder / item.image,
        item.tags,
        item.sentence,
        item.origin,
        item.kept_first,
        item.kept_last,
        mask,
        Reading(alpha_mask=own, paper=item.paper or WHITE),
        item.file,
    )


def _item(
    candidate: SourcePicture, picture: DecodedPicture, mask: DecodedPicture | None, subset: str
) -> Item:
    """The entry of a picture. Group and split are set when all pictures are known.

    A generated picture is named by its pixels, any other by its file.
    """
    pixels = picture.pixels if model_of(candidate.origin) else ""
    weighed = "alpha" if candidate.reading.alpha_mask and picture.paper else ""
    if mask is not None:
        weighed = f"masks/{mask.sha256}{mask.suffix}"
    return Item(
        image=f"images/{pixels or picture.sha256}{picture.suffix}",
        sha256=picture.sha256,
        width=picture.width,
        height=picture.height,
        subset=subset,
        tags=candidate.tags,
        sentence=candidate.sentence,
        group=0,
        split="train",
        origin=candidate.origin,
        file=candidate.name,
        mask=weighed,
        kept_first=candidate.kept_first,
        kept_last=candidate.kept_last,
        paper=picture.paper,
        profile=picture.profile,
        pixels=pixels,
    )


def _split(
    items: Sequence[Item], groups: Sequence[int], settings: Settings, seed: int
) -> list[Item]:
    """Set group and split. A group is held out as a whole, wherever its pictures are: a repeat
    would leak.

    Of each subset the share `heldout` of its groups goes out, at least one and never all; which, is
    drawn per group.
    """
    whole = settings.whole_heldout
    held = {group for group, item in zip(groups, items, strict=True) if item.subset in whole}
    for subset in settings.sources:
        share = settings.share_heldout(subset)
        own = sorted(
            {group for group, item in zip(groups, items, strict=True) if item.subset == subset}
        )
        if not share or subset in whole or len(own) < 2:
            continue
        wanted = min(max(1, round(share * len(own))), len(own) - 1)
        order = generator(seed, "held out", subset).permutation(len(own))
        free = [own[i] for i in order if own[i] not in held]
        held |= set(free[: max(0, wanted - (len(own) - len(free)))])
    return [
        dataclasses.replace(item, group=group, split="heldout" if group in held else "train")
        for item, group in zip(items, groups, strict=True)
    ]


def _makers(items: Sequence[Item], settings: Settings) -> dict[str, Lineage]:
    """SHA-256 → history of the models that made pictures of the folders, as their provenance.json
    tells."""
    models: dict[str, Lineage] = {}
    folders = [source.folder for sources in settings.sources.values() for source in sources]
    for folder in filter(None, folders):
        models |= read_known(folder).models
    return {
        sha256: models[sha256]
        for sha256 in sorted({model_of(item.origin) for item in items} & models.keys())
    }


def _self_taught(
    items: Sequence[Item],
    parents: Sequence[Lineage],
    makers: Mapping[str, Lineage],
    context: Context,
) -> dict[str, int]:
    """Subset → pictures that an ancestor of what is trained on them made; said where they are
    many."""
    models, own = dict(makers), {context.base_sha256}
    for lineage in parents:
        for id, node in lineage.items():
            if node["type"] == "model":
                models[node["sha256"]] = ancestors(lineage, id)
            elif node["type"] == "pictures":
                own.add(node.get("model_sha256", ""))
    own |= own_models(models, context.character.trigger, context.base_sha256)
    rows = self_taught([item.subset for item in items], [item.origin for item in items], own)
    for name, row in rows.items():
        if row.share >= SELF_TAUGHT:
            line = (
                f"{name}: {row.share:.0%} of it was made by the model's own ancestors; it will"
                " learn their faults"
            )
            context.events.note(line, "warning")
    return {name: row.own for name, row in rows.items() if row.own}


def _say_refused(refused: Sequence[Refusal], context: Context) -> None:
    if refused:
        lines = [f"{row.file}: {row.reason}" for row in refused]
        context.events.note(
            f"{len(refused)} files are set aside:",
            "warning",
            first(lines, SHOWN_REFUSALS, "the manifest"),
        )
