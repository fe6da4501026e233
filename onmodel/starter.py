"""Recipes written for a user: the first one of a character, and one that compares files.

They are ordinary recipes and can be edited afterwards.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onmodel.command_settings import CommandSettings, option
from onmodel.errors import InputError
from onmodel.text import printable
from onmodel.toon.base import toon_base

if TYPE_CHECKING:
    from onmodel.curate.ingest import SourcePicture
    from onmodel.families.usual import Usual

EPOCHS = 10
SHOWN_PER_EPOCH = 200  # pictures that an epoch shows, as repeats of small sets are usually chosen
MOST_REPEATS = 10
HELDOUT = 4  # pictures at least that are compared with and not trained on
FEWEST = 2 * HELDOUT
DESIGN = 0.8  # share of captions from which a tag belongs to the design
FREE = ("expression", "framing", "view", "pose", "background", "style")
DATE = "2000-01-01"  # of a comparison, which releases nothing that would show it


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(CommandSettings):
    """How files are compared: prompts, sampling, references and observers."""

    suite: str = option("Set of prompts: choose, check, confirm or thorough.", "confirm")
    seeds: int = option("Pictures per prompt.", 2, least=1)
    trigger: tuple[str, ...] = option(
        "Trigger word of one file, as name=word. Default: the sheet's. May be repeated.", ()
    )
    references: Path | None = option(
        "Folder of good pictures of the character that no file was trained on. Default: the toon"
        " world's.",
        None,
    )
    weight: float = option("Weight of every LoRA.", 1.0)
    steps: int = option(
        "Sampling steps. Default (0): 16 for the toon base, else the base's own.", 0, least=0
    )
    size: int = option("Side in pixels. Default (0): 96 for the toon base, else 1024.", 0, least=0)
    tagger: str = option("Tagger in WD v3 format. Default: the toon base's own.", "")
    identity: str = option("Identity model in CCIP format. Default: the toon base's own.", "")
    seed: int = option("Seed of the noise.", 0, least=0)
    more: bool = option("Add prompts for the questions that are open in the first look.", False)


@dataclass(frozen=True, kw_only=True)
class StarterSettings(CommandSettings):
    """What the first recipe of a character is about."""

    pictures: Path | None = option("Folder of the character's pictures.", None)
    trigger: str = option("Trigger word: one word that the base does not know.", "")
    name: str = option("Name of the character. Default: the trigger word.", "")
    turbo: bool = option("The base is a Turbo model: sample in 10 steps at guidance 1.", False)


@dataclass(frozen=True)
class Starter:
    """Files that were written, and what was found in the folder of pictures."""

    recipe: Path
    sheet: Path
    pictures: int
    captions: int
    repeats: int


def write_starter(folder: Path, settings: StarterSettings, base: Sequence[str] | None) -> Starter:
    """Write `recipe.toml` and `character.toml` for a folder of pictures. Raises InputError for a
    missing setting, for too few pictures, and when one of the files exists."""
    from onmodel.families.registry import parse_base_rows, usual

    settings = replace(settings, name=settings.name.strip() or settings.trigger)
    if settings.pictures is None:
        raise InputError("--pictures", "missing", "name the folder of the character's pictures")
    if not settings.trigger.strip():
        raise InputError("--trigger", "missing", "give one, e.g. mychar")
    recipe, sheet = folder / "recipe.toml", folder / "character.toml"
    for path in (recipe, sheet):
        if path.exists():
            raise InputError("FOLDER", path, "exists already; name another folder")
    if not settings.pictures.is_dir():
        remedy = "no such folder"
        if settings.pictures.exists():
            zipped = settings.pictures.suffix.lower() == ".zip"
            what = "unpack it, and name the folder" if zipped else "name the folder of the pictures"
            remedy = f"is no folder; {what}"
        raise InputError("--pictures", settings.pictures, remedy)
    place, found = _pictures(settings.pictures)
    captions = [picture.tags for picture in found if picture.captioned]
    rows = parse_base_rows(base or ["toon"])
    toon = toon_base(base)
    if settings.turbo and toon:
        raise InputError("--turbo", "true", "name the files of the Turbo model with --base")
    repeats = min(MOST_REPEATS, max(1, round(SHOWN_PER_EPOCH / len(found))))
    tags, count_tag = design_of(captions, settings.trigger)
    folder.mkdir(parents=True, exist_ok=True)
    sheet.write_text(_sheet(settings, tags, count_tag, toon or rows.family), encoding="utf-8")
    heldout = max(0.1, round(HELDOUT / len(found) + 0.005, 2))
    source = {
        "folder": Path(os.path.relpath(place, folder)).as_posix(),
        "default_caption": f"{count_tag}, {settings.trigger}",
        "trigger": settings.trigger,
    }
    head = _head(settings.name, "character.toml", rows, toon, folder)
    text = STARTER.format(
        head=head,
        source=_inline(source),
        pictures=len(found),
        captions=len(captions),
        heldout=heldout,
        repeats=repeats,
        epochs=EPOCHS,
        shown=len(found) * repeats,
        **(TOON if toon else _numbers(usual(rows.family), settings.turbo)),
    )
    recipe.write_text(text, encoding="utf-8")
    return Starter(recipe, sheet, len(found), len(captions), repeats)


def _pictures(pictures: Path) -> tuple[Path, "Sequence[SourcePicture]"]:
    """The folder that holds the pictures, which may lie in one folder within, and what it offers.
    Raises InputError for too few."""
    from onmodel.curate.ingest import scan_folder
    from onmodel.curate.listing import layout_of, list_folder, repeats_of

    layout = layout_of(pictures, "--pictures")
    inner = layout.folders
    if layout.numbered:
        listing = list_folder(layout.root)
        inner = [path for path in listing.folders if repeats_of(path)]
        if listing.pictures:
            count, name = len(listing.pictures), printable(inner[0].name)
            remedy = f"holds {count} pictures beside its folder {name}; name that folder"
            raise InputError("--pictures", pictures, remedy)
    place = inner[0] if len(inner) == 1 else pictures
    scan = scan_folder(place, "")
    if len(scan.pictures) >= FEWEST:
        return place, scan.pictures
    remedy = f"holds {len(scan.pictures)} pictures; a recipe needs at least {FEWEST}"
    if scan.refused:
        first = scan.refused[0]
        remedy += (
            f"; {len(scan.refused)} files are refused, the first: {first.file}, {first.reason}"
        )
    if len(inner) > 1:
        names = ", ".join(printable(path.name) for path in inner)
        remedy += f"; there are some in {names}: name one of these"
    raise InputError("--pictures", pictures, remedy)


def write_comparison(
    files: Sequence[Path],
    sheet: Path,
    base: Sequence[str] | None,
    settings: EvaluateSettings,
    out: Path,
) -> Path:
    """Write the recipe that measures LoRA files side by side to `out`/recipe.toml, and return its
    path. Raises InputError for files, triggers, references and a sheet that are wrong."""
    from onmodel.character import load_character
    from onmodel.evaluate.second_look import SUITE
    from onmodel.families.registry import parse_base_rows, usual
    from onmodel.lora.names import names_of
    from onmodel.lora.specs import spec_of_loras
    from onmodel.sample.suites import SUITES

    if settings.suite not in SUITES:
        raise InputError("--suite", settings.suite, f"use {', '.join(SUITES)}")
    if settings.more and settings.suite != SUITE:
        remedy = f"only suite {SUITE} has further prompts"
        raise InputError("--more", f"--suite {settings.suite}", remedy)
    rows, toon = parse_base_rows(base or ["toon"]), toon_base(base)
    names = [re.sub(r"[^\w.#-]", "_", name) for name in names_of(files)]
    names = [f"{name}_" if name in ("references", "compared", "more") else name for name in names]
    triggers = dict(row.partition("=")[::2] for row in settings.trigger)
    for name, word in triggers.items():
        if name not in names or not word:
            raise InputError("--trigger", f"{name}={word}", f"names are {', '.join(names)}")
    if settings.references is None and not toon:
        raise InputError("--references", "missing", "name a folder of good pictures")
    if settings.references and not settings.references.is_dir():
        raise InputError("--references", settings.references, "no such folder")
    if not str(sheet).startswith("toon:"):
        load_character(sheet)
    spec_of_loras(list(files))  # raises InputError for what is not a LoRA
    source: dict[str, object] = {"toon": "reference"}
    if settings.references:
        source = {"folder": os.path.abspath(settings.references), "default_caption": "1girl"}
    numbers = {
        "steps": settings.steps or (16 if toon else usual(rows.family).steps),
        "guidance": 3.0 if toon else usual(rows.family).guidance,
        "size": settings.size or (96 if toon else 1024),
        "batch": 8 if toon else 4,
    }
    observers = {"tagger": settings.tagger, "identity": settings.identity}
    compared = {
        "do": "evaluate",
        "models": names,
        "suite": settings.suite,
        "seeds": settings.seeds,
        "weight": settings.weight,
        "floors": True,
        **numbers,
        **{key: value for key, value in observers.items() if value},
    }
    own = str(sheet) if str(sheet).startswith("toon:") else os.path.abspath(sheet)
    parts = [_head("comparison", own, rows, toon, out, seed=settings.seed, date=DATE)]
    for name, file in zip(names, files, strict=True):
        parts.append(
            _table(f"stages.{_quoted(name)}", {"do": "import", "file": os.path.abspath(file)})
        )
    parts.append(
        '[stages.references]\ndo = "curate"\nheldout_subsets = ["reference"]\n'
        f"subsets.reference = [{_inline(source)}]\n"
    )
    references = 'references = { stage = "references", subset = "reference" }\n'
    trigger_rows = f"triggers = {_inline(triggers)}\n" if triggers else ""
    parts.append(_table("stages.compared", compared) + references + trigger_rows)
    if settings.more:
        parts.append(_table("stages.more", {"do": "evaluate", "more_of": "compared"}))
    out.mkdir(parents=True, exist_ok=True)
    recipe = out / "recipe.toml"
    recipe.write_text("\n".join(parts), encoding="utf-8")
    return recipe


def _head(
    name: str, sheet: str, base: Any, toon: str, folder: Path, seed: int = 1, date: str = ""
) -> str:
    """The [recipe] table. Files of a base are written with their whole paths."""
    from datetime import date as day

    rows = {"name": name, "character": sheet, "seed": seed, "date": date or str(day.today())}
    if toon:
        return _table("recipe", rows | {"base": toon})
    own = base.model_dump(exclude_defaults=True) | {"family": base.family}
    paths = {
        key: os.path.abspath(value.expanduser()) if isinstance(value, Path) else value
        for key, value in own.items()
    }
    return _table("recipe", rows) + "\n" + _table("recipe.base", paths)


def design_of(captions: Sequence[Sequence[str]], trigger: str) -> tuple[list[str], str]:
    """Tags that most captions share, which is what the character always looks like, and the tag
    that says how many characters there are."""
    counts: Counter[str] = Counter()
    for tags in captions:
        counts.update(list(dict.fromkeys(tags)))
    common = [tag for tag, count in counts.items() if count >= DESIGN * len(captions)]
    count_tags = [tag for tag in common if re.fullmatch(r"1(girl|boy|other)", tag)]
    design = [tag for tag in common if tag not in (trigger, *count_tags)]
    return design, count_tags[0] if count_tags else "1girl"


def _sheet(settings: StarterSettings, tags: Sequence[str], count_tag: str, base: str) -> str:
    from onmodel.families.registry import licence_rows

    row = licence_rows().get(base)  # none where the family's models have several licences
    licence = row.licence.name if row else ""
    rows = {
        "name": settings.name,
        "trigger": settings.trigger,
        "count_tag": count_tag,
        "tags": list(tags),
        "description": f"{settings.name}, with {', '.join(tags)}." if tags else settings.name + ".",
        "required": list(tags),
        "forbidden": [],
        "free": list(FREE),
        "license": licence,
        "rating": "safe",
    }
    return SHEET.format(rows=_table("character", rows), outfit=_quoted(settings.name))


def _numbers(usual: "Usual", turbo: bool) -> dict[str, str]:
    """The settings of a real base, as lines of the recipe."""
    steps, guidance = TURBO if turbo else (usual.steps, usual.guidance)
    return {
        "train": (
            f"learning_rate = {usual.learning_rate:g}\nrank = {usual.rank}\nalpha = {usual.alpha}\n"
            "batch = 2\nresolution = 1024"
        ),
        "sampling": f"steps = {steps}\nguidance = {guidance}\nsize = 1024\nbatch = 4",
        "observers": OBSERVERS,
    }


def _table(name: str, rows: Mapping[str, object]) -> str:
    return f"[{name}]\n" + "".join(f"{key} = {_quoted(value)}\n" for key, value in rows.items())


def _inline(rows: Mapping[str, object]) -> str:
    return "{ " + ", ".join(f"{_quoted(k)} = {_quoted(v)}" for k, v in rows.items()) + " }"


def _quoted(value: Any) -> str:
    """A text, number, truth value or list as TOML; for these JSON is the same."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


TOON = {
    "train": "learning_rate = 5e-3\nrank = 16\nalpha = 16\nbatch = 16\nresolution = 96",
    "sampling": "steps = 16\nguidance = 2.0\nsize = 96\nbatch = 8",
    "observers": "",
}
OBSERVERS = (
    '\ntagger = "hf://SmilingWolf/wd-eva02-large-tagger-v3"  # fetched when it is first used;'
    " see docs/observers.md\n# identity = …  # an identity model in CCIP format: more axes"
)
TURBO = (10, 1.0)  # steps and guidance
STARTER = """\
# onmodel run recipe.toml            train, measure and choose
# onmodel run recipe.toml --dry-run  show the plan
# onmodel settings train             every setting of a stage

{head}
# {pictures} pictures, {captions} with a caption. The others get default_caption.
[stages.data]
do = "curate"
heldout = {heldout}  # share of the pictures that are compared with and not trained on
subsets.base = [{source}]

# An epoch shows {shown} pictures: {pictures} × {repeats} repeats, less those held out.
[stages.trained]
do = "train"
dataset = "data"
data = [{{ subset = "base", repeats = {repeats} }}]
epochs = {epochs}
keep_every = 2
{train}

[stages.candidates]
do = "evaluate"
models = ["trained@*"]
suite = "choose"
seeds = 2
references = "data"
{sampling}{observers}

[stages.best]
do = "select"
candidates = "candidates"
count = 1
"""
SHEET = """\
# The model sheet: how the character looks. Tags that most captions share were filled in.
# `tags` is the whole design, `required` what every picture must show, `forbidden` what none may
# show, `free` what a prompt may choose.

{rows}
# Colours that are measured, as #rrggbb, e.g. hair = "#202024".
[character.palette]

[[character.outfits]]
id = "default"
label = {outfit}
tags = []

[character.author]
name = "Author"
"""
