"""What will not work: an installation, a base, LoRA files and data sets looked at before anything
is spent on them.

A base's weights are not read. A data set is put through the real curate stage, into a folder that
is thrown away.
"""

import os
import platform
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from onmodel.errors import InputError, OnmodelError
from onmodel.events import Events, Finding, Status
from onmodel.text import shown
from onmodel.toon.base import TOON_BASE

if TYPE_CHECKING:
    from onmodel.families.protocol import BaseSettings, Outline, Part
    from onmodel.recipe import Recipe
    from onmodel.stages.curate import Settings as Curate

CaptionCheck = Callable[[Iterable[str]], Iterator[tuple[str, str]]]
GIB = 2**30
SHOWN = 5  # files that are named one by one
_ROOM = (2, 10)  # GiB of free disk: below the first nothing can be made, below the second little
_SQLITE = (3, 37)  # STRICT tables


def examine(
    recipe_path: Path | None,
    base: Sequence[str],
    loras: Sequence[Path],
    datasets: Sequence[Path],
    events: Events,
) -> list[Finding]:
    """All findings, the installation's first. `base` is as on the command line: a name, or
    `field=path` rows."""
    from onmodel.families.registry import caption_check, parse_base, parse_base_rows
    from onmodel.stages.curate import Settings as Curate

    found = [*installation()]
    recipe: Recipe | None = None
    curates: dict[str, Curate] = {}
    with _caught(found, "recipe"):
        if recipe_path is not None:
            recipe, curates, rows = _read_recipe(recipe_path, events)
            found += rows
    settings = None
    with _caught(found, "base"):
        if base:
            settings = parse_base_rows(base)
        elif recipe is not None:
            settings = parse_base(recipe.base)
    outline = None
    if settings is not None:
        rows, outline = base_findings(settings)
        found += rows
    for path in loras:
        with _caught(found, "lora"):
            found += lora_findings(path, outline)
    for path in datasets:
        with _caught(found, "data set"):
            if not path.exists():
                raise InputError("dataset", path, "no such file or folder")
            curates[str(path)] = _stage_settings(
                "dataset", {"do": "curate", **_curate_table(path)}, Curate
            )
    check = caption_check(settings) if settings is not None else None
    if curates:
        with events.task("look at data sets", total=len(curates)) as task:
            for name, curate in curates.items():
                with _caught(found, f"data set {name}"):
                    found += dataset_findings(name, curate, recipe, check)
                task.advance()
    return found


def installation() -> Iterator[Finding]:
    """Python, packages, the card, the processor, memory and disk."""
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.platform(terse=True)}")
    yield from _packages()
    if sqlite3.sqlite_version_info < _SQLITE:
        yield Finding(
            "sqlite", "fail", sqlite3.sqlite_version, "the ledger needs 3.37; use a newer Python"
        )
    yield from _card()
    yield from _processor()
    import psutil

    memory = psutil.virtual_memory()
    yield Finding(
        "memory", "ok", f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB are free"
    )
    free = shutil.disk_usage(Path.cwd()).free / GIB
    short: Status = "fail" if free < _ROOM[0] else "warn" if free < _ROOM[1] else "ok"
    yield Finding(
        "disk",
        short,
        f"{free:.1f} GiB are free here",
        "" if short == "ok" else "make room, or work elsewhere",
    )


def _packages() -> Iterator[Finding]:
    """The declared dependencies, each extra on its own."""
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(row) for row in metadata.requires("onmodel") or []]
    except metadata.PackageNotFoundError:
        yield Finding(
            "packages",
            "warn",
            "onmodel is not installed, so versions are not checked",
            "python run.py demo",
        )
        return
    bad, good, extras = [], 0, dict[str, list[str]]()
    for row in wanted:
        extra = next(
            (
                name
                for name in ("evaluate", "dev")
                if row.marker
                and not row.marker.evaluate({"extra": ""})
                and row.marker.evaluate({"extra": name})
            ),
            "",
        )
        try:
            version = metadata.version(row.name)
            fault = (
                ""
                if row.specifier.contains(version, prereleases=True)
                else f"{row.name} {version}, not {row.specifier}"
            )
        except metadata.PackageNotFoundError:
            fault = f"{row.name} is missing"
        if extra:
            extras.setdefault(extra, []).extend([fault] if fault else [])
        elif row.marker is None or row.marker.evaluate({"extra": ""}):
            bad += [fault] if fault else []
            good += not fault
    if bad:
        yield Finding("packages", "fail", "; ".join(bad), "install requirements.lock again")
    else:
        yield Finding("packages", "ok", f"all {good} that are needed")
    for extra, faults in extras.items():
        if extra != "dev":
            status: Status = "warn" if faults else "ok"
            remedy = f"pip install 'onmodel[{extra}]'" if faults else ""
            yield Finding(f"extra {extra}", status, "; ".join(faults) or "there", remedy)


def _card() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(0)
        text = f"{facts.name}, {facts.total_memory / GIB:.1f} GiB, torch {torch.__version__}"
        if torch.cuda.is_bf16_supported(including_emulation=False):
            yield Finding("card", "ok", text)
        else:
            yield Finding(
                "card",
                "warn",
                f"{text}, no bfloat16 in hardware",
                'slow; use dtype = "float32"',
            )
    elif shutil.which("nvidia-smi"):
        yield Finding(
            "card",
            "fail",
            f"an NVIDIA driver is there, but torch {torch.__version__} cannot use it",
            "install torch's CUDA build",
        )
    else:
        yield Finding(
            "card",
            "warn",
            f"none that torch {torch.__version__} can use",
            "the toon world runs on the processor; the real base needs a card",
        )


def _processor() -> Iterator[Finding]:
    import torch

    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    able = torch.cpu.get_capabilities()
    bf16 = (
        "bfloat16 in hardware"
        if able.get("avx512_bf16") or able.get("amx_bf16")
        else "no bfloat16 in hardware"
    )
    text = f"{cores} cores, torch uses {threads} threads, {bf16}"
    if threads * 2 < cores and "OMP_NUM_THREADS" in os.environ:
        yield Finding(
            "processor",
            "warn",
            text,
            f"OMP_NUM_THREADS is {os.environ['OMP_NUM_THREADS']}; unset it",
        )
    else:
        yield Finding("processor", "ok", text)


def _read_recipe(path: Path, events: Events) -> "tuple[Recipe, dict[str, Curate], list[Finding]]":
    """A recipe, its data sets that come from outside, and what is to be said of its plan."""
    from onmodel.engine import pipeline
    from onmodel.recipe import load_recipe

    recipe = load_recipe(path)
    steps = pipeline.make_plan(recipe)
    rows = [Finding("recipe", "ok", f"{recipe.name}: {len(steps)} stages")]
    if recipe.threads > (os.cpu_count() or 1):
        rows.append(
            Finding(
                "recipe",
                "warn",
                f"threads = {recipe.threads}, the machine has {os.cpu_count()} cores",
                "lower it",
            )
        )
    missing = {str(error): error for step in steps for error in step.plan.missing}
    rows += [
        Finding(f"recipe {row.field}", "fail", str(row.value), row.remedy)
        for row in missing.values()
    ]
    curates: dict[str, Any] = {
        step.name: step.settings
        for step in steps
        if step.verb == "curate" and not step.settings.needs() and not step.plan.missing
    }
    with _caught(rows, "recipe"):
        rows += _fits(recipe, steps, events)
    return recipe, curates, rows


def _fits(recipe: "Recipe", steps: Sequence[Any], events: Events) -> Iterator[Finding]:
    """Does each training fit into the card, as planned from shapes?"""
    import torch

    from onmodel.engine import pipeline

    room = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None
    for name, row in pipeline.forecasts(recipe, steps, events)[1].items():
        step = next(step for step in steps if step.name == name)
        if not row.memory:
            continue
        kept, twice = row.memory[max(step.settings.resolutions)]
        needed = twice if step.settings.gradient_checkpointing is True else kept
        text = (
            f"a step takes about {needed / GIB:.1f} GiB ({twice / GIB:.1f} with"
            " gradient_checkpointing)"
        )
        if room is None or needed < 0.9 * room:
            yield Finding(f"recipe {name}", "ok", text)
        else:
            remedy = (
                "set gradient_checkpointing" if twice < 0.9 * room else "lower batch or resolution"
            )
            yield Finding(
                f"recipe {name}", "fail", f"{text}, the card has {room / GIB:.1f}", remedy
            )


def base_findings(settings: "BaseSettings") -> "tuple[list[Finding], Outline | None]":
    """A line for each part of a base, from headers alone; and its outline when all parts of the
    model fit."""
    from onmodel.families import registry
    from onmodel.families.protocol import Place

    rows: list[Finding] = []
    places = registry.locate(settings, download=False)
    for error in {
        place.value: place for place in places.values() if _not_downloaded(place)
    }.values():
        rows.append(Finding("base hub", "warn", str(error.value), error.remedy))
    good: set[str] = set()
    for name, place in places.items():
        with _caught(rows, f"base {name}"):
            if _not_downloaded(place):
                continue
            if not isinstance(place, Place):
                raise place
            rows.append(_part(name, registry.examine(settings, name, place)))
            good.add(name)
    weights = {p.name for p in registry.components(settings.family) if p.kind != "tokenizer"}
    outline = registry.outline(settings) if weights <= good else None
    if outline is not None and settings.folder != TOON_BASE:
        rows.append(_memory(outline, settings))
    return rows, outline


def _not_downloaded(place: object) -> TypeGuard[InputError]:
    return isinstance(place, InputError) and place.field == "base.hub"


def _part(name: str, part: "Part") -> Finding:
    if part.tokens:
        return Finding(f"base {name}", "ok", f"{part.tokens} tokens")
    places = 0 if part.parameters > 1e8 else 1
    text = f"{part.parameters / 1e6:,.{places}f} M parameters"
    text += f" in {part.layers} blocks" if part.layers else ""
    text += ", stored as " + " and ".join(part.dtypes)
    if "F16" in part.dtypes:
        return Finding(
            f"base {name}",
            "warn",
            text,
            "float16 may have cut large values; prefer the bfloat16 file",
        )
    return Finding(f"base {name}", "ok", text)


def _memory(outline: "Outline", settings: "BaseSettings") -> Finding:
    """Is there room for the weights alone?"""
    import psutil
    import torch

    card = torch.cuda.is_available() and settings.device != "cpu"
    width = 4 if settings.dtype == "float32" or (settings.dtype == "auto" and not card) else 2
    needed = width * sum(outline.parameters(name) for name in outline.components)
    room = torch.cuda.mem_get_info()[0] if card else psutil.virtual_memory().available
    text = (
        f"its weights take {needed / GIB:.1f} GiB, {'the card' if card else 'this machine'} has"
        f" {room / GIB:.1f} free"
    )
    if needed < room:
        return Finding("base memory", "ok", text)
    return Finding(
        "base memory",
        "fail",
        text,
        'use dtype = "bfloat16"' if width == 4 else "close other programs",
    )


def lora_findings(path: Path, outline: "Outline | None") -> Iterator[Finding]:
    """Is this a LoRA for the base? Without one it is compared with a published base. Raises
    InputError."""
    from onmodel.families.registry import outline as outline_of
    from onmodel.lora.tensors import read_lora

    about = f"lora {path.name}"
    if outline is None:
        outline = outline_of({})
        title = outline.spec.title
        text = f"no base was named or fits; compared with {title} as published"
        yield Finding(about, "warn", text, "add --base")
    lora = read_lora(path, outline.spec, dora=True)
    ranks = sorted({factors.rank for factors in lora.modules.values()})
    span = f"{ranks[0]}" if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
    text = (
        f"{len(lora.modules)} of {len(outline.spec.linears)} layers, rank {span}, alpha"
        f" {lora.trained_alpha or 'mixed'}"
    )
    if not any(factors.up.any() and factors.down.any() for factors in lora.modules.values()):
        yield Finding(
            about,
            "warn",
            f"{text}; it changes nothing, every product is zero",
            "use a later checkpoint",
        )
    else:
        yield Finding(about, "ok", text)
    if any(factors.magnitude is not None for factors in lora.modules.values()):
        yield Finding(
            about,
            "warn",
            "it is DoRA",
            "it can be sampled, evaluated and trained on, not merged or released",
        )
    said = lora.metadata.get("modelspec.architecture") or lora.metadata.get(
        "ss_base_model_version", ""
    )
    if said and outline.spec.name not in said.lower():
        yield Finding(
            about,
            "warn",
            f"its header says {shown(said)!r}, its keys say {outline.spec.title}",
            "other tools may go by the header",
        )
    if not lora.metadata:
        yield Finding(about, "warn", "its header says nothing of how it was made", "")


def dataset_findings(
    name: str,
    settings: "Curate",
    recipe: "Recipe | None",
    caption_check: CaptionCheck | None,
) -> Iterator[Finding]:
    """What curate makes of a data set. Raises InputError when nothing is left of it."""
    from onmodel.dataset.manifest import read_items
    from onmodel.hashing import read_json

    about = f"data set {name}"
    with tempfile.TemporaryDirectory(prefix="onmodel-doctor-") as folder:
        _curate(settings, Path(folder))
        items = read_items(Path(folder) / "out")
        manifest = read_json(Path(folder) / "out" / "manifest.json")
    subsets = ", ".join(f"{subset} {row['count']}" for subset, row in manifest["subsets"].items())
    yield Finding(about, "ok", f"{len(items)} pictures: {subsets}")
    yield from (Finding(about, "warn", note) for note in settings.notes)
    refused = manifest["refused"]
    yield from (
        Finding(about, "warn", f"{row['file']}: {row['reason']}", "it is left out")
        for row in refused[:SHOWN]
    )
    if len(refused) > SHOWN:
        yield Finding(about, "warn", f"{len(refused) - SHOWN} more files are left out")
    if repeats := len(items) - len({item.group for item in items}):
        yield Finding(
            about,
            "warn",
            f"{repeats} pictures repeat another",
            "each repeat counts as one more exposure",
        )
    asked = {side for table in _trainings(recipe) for side in _sides(table)}
    own = {subset: row.get("shown", {}) for subset, row in manifest["subsets"].items()}
    sides = {
        subset: set(_sides(shown)) if "resolution" in shown else asked
        for subset, shown in own.items()
    }
    for side in sorted(set().union(*sides.values())):
        small = sum(
            side in sides[item.subset] and item.width * item.height < side * side for item in items
        )
        if small:
            yield Finding(
                about,
                "warn",
                f"{small} pictures are smaller than {side}×{side}",
                "lower resolution, or larger scans",
            )
    if recipe is not None:
        trigger = recipe.character.trigger
        without = sum(trigger not in f"{item.tags} {item.sentence}" for item in items)
        if without:
            yield Finding(
                about,
                "warn",
                f"{without} captions lack the trigger {trigger!r}",
                "put it into them",
            )
    captions = {text for item in items for text in (item.tags, item.sentence) if text}
    for text, remedy in caption_check(captions) if caption_check else ():
        yield Finding(about, "warn", text, remedy)


def _trainings(recipe: "Recipe | None") -> list[Mapping[str, Any]]:
    """The recipe's train tables; one that says nothing without a recipe."""
    if recipe is None:
        return [{}]
    return [table for table in recipe.stages.values() if table["do"] == "train"]


def _sides(table: Mapping[str, Any]) -> tuple[int, ...]:
    """The resolutions of a train table, or of how a subset is shown."""
    from onmodel.dataset.rules import DataConfig

    return DataConfig(
        **{name: value for name, value in table.items() if name == "resolution"}
    ).resolutions


def _curate_table(path: Path) -> dict[str, Any]:
    """What names a data set to curate: another trainer's file, its folders `10_name`, or a folder
    of pictures."""
    if path.is_file():
        return {"dataset_config": path}
    if any(re.match(r"\d+_", inner.name) for inner in path.iterdir() if inner.is_dir()):
        return {"train_data_dir": path}
    return {"subsets": {path.name or "pictures": [{"folder": path}]}}


def _curate(settings: "Curate", folder: Path) -> None:
    """Run the stage into `folder/out`, where nothing of it is kept."""
    from onmodel.character import load_character
    from onmodel.records import Artifact
    from onmodel.stages import curate
    from onmodel.stages.base import Context, Inputs

    def family() -> Any:
        raise AssertionError("curate needs no base")

    sheet = TOON_BASE.parents[1] / "characters" / "backgwa.toml"  # curate does not look at it
    context = Context(
        name="doctor",
        seed=0,
        date="",
        character=load_character(sheet),
        family=family,
        base_name="",
        base_sha256="",
        threads=1,
        scratch=folder,
        pictures=folder / "pictures",
        events=Events(),
        commit=lambda kind, lineage: Artifact(kind, "", folder / "out"),
    )
    curate.run(Inputs({}), settings, context)


def _stage_settings(where: str, table: Mapping[str, Any], kind: Callable[..., Any]) -> Any:
    from pydantic import ValidationError

    try:
        return kind(**table)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(where, table.get("dataset_config", where), first["msg"]) from error


@contextmanager
def _caught(rows: list[Finding], about: str) -> Iterator[None]:
    """An error within becomes a finding."""
    try:
        yield
    except InputError as error:
        rows.append(Finding(about, "fail", f"{error.field}: {error.value}", error.remedy))
    except OnmodelError as error:
        rows.append(Finding(about, "fail", str(error)))
