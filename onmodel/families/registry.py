"""The families, by name, and what is asked of them before a base is loaded: its files, outline,
layers, licence. Nothing heavy is imported before it is needed.

A family is a folder with the same files as every other one:

    spec.py          Settings, COMPONENTS, USUAL, published(), relatives(), spec_of_shapes(),
                     spec_of_folder(), facts_of_folder()
    comfyui.py       find_parts()
    load.py          load(), tokenizer(), empty_pipeline(), export_single_files()
    family.py        the loaded base (`protocol.Family`)
    text.py          captions to opaque text
    latents.py       pictures to latents and back
    objective.py     what the network is trained to predict (`protocol.Objective`)
    sampling.py      noise levels (`protocol.SamplingRules`)
    lora_layouts.py  names of layers, LORA_NAMES, count_blocks(), lora_blocks()
    loaders.py       RULES: what other programs load of a LoRA
    memory.py        make_outline(), outline_of() (`protocol.Outline`)
    doctor.py        examine(), caption_findings()
    licences.py      BASES
    published.toml   the files that `onmodel base get` downloads
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from onmodel.devices import default_dtype, find_device
from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.families.hub import snapshot
from onmodel.families.licences import BASES, LicensedBase
from onmodel.families.loader_rules import LoaderRules
from onmodel.families.lora_names import LoraNames
from onmodel.families.protocol import (
    BaseFacts,
    BaseSettings,
    Component,
    FamilySpec,
    Part,
    Place,
)
from onmodel.families.usual import Usual
from onmodel.hashing import hash_json, sha256_file, tree_hash
from onmodel.toon.base import TOON_BASES

if TYPE_CHECKING:
    import torch

    from onmodel.families.protocol import Family, Outline

FAMILIES = {"anima": "onmodel.families.anima", "sdxl": "onmodel.families.sdxl"}
DEFAULT_FAMILY = "anima"
# Bases that come with the package.
SHIPPED: dict[str, dict[str, str | Path]] = {
    name: {"family": family, "folder": folder, "dtype": "float32", "device": "cpu"}
    for name, (family, folder) in TOON_BASES.items()
}
BASE_NAMES = frozenset({*SHIPPED, *FAMILIES})

Base = str | Mapping[str, object] | BaseSettings

_TOLD = 2**30  # bytes of files from which hashing them takes seconds and shows a bar


def _file(family: str, name: str) -> Any:
    """A file of a family."""
    return import_module(f"{FAMILIES[family]}.{name}")


def components(family: str) -> tuple[Component, ...]:
    """What a base of the family consists of."""
    found: tuple[Component, ...] = _file(family, "spec").COMPONENTS
    return found


def usual(family: str) -> Usual:
    """What a new recipe says for a base of the family."""
    found: Usual = _file(family, "spec").USUAL
    return found


def base_settings(base: Mapping[str, Any]) -> type[BaseSettings]:
    """The settings of the family that a recipe's `base` table names; what all share for an unknown
    one."""
    family = base.get("family", DEFAULT_FAMILY)
    found: type[BaseSettings] = BaseSettings
    if family in tuple(FAMILIES):
        found = _file(family, "spec").Settings
    return found


def parse_base(base: Base) -> BaseSettings:
    """A recipe's `base` as settings: the name of a shipped base, or a table. Raises InputError for
    what is wrong in it."""
    if isinstance(base, BaseSettings):
        return base
    if not isinstance(base, Mapping):
        if base not in tuple(SHIPPED):  # a list has no hash
            named = " or ".join(f'"{name}"' for name in SHIPPED)
            remedy = (
                f'write {named}, or a table such as {{ family = "{DEFAULT_FAMILY}", folder = "…" }}'
            )
            raise InputError("base", base, remedy)
        base = SHIPPED[base]
    family = base.get("family", DEFAULT_FAMILY)
    if family not in tuple(FAMILIES):
        raise InputError("base.family", family, f"unknown; known: {', '.join(FAMILIES)}")
    kind = base_settings(base)
    try:
        return kind.model_validate(dict(base))
    except ValidationError as error:
        fault = InputError.of(error, "base")
        if error.errors()[0]["type"] == "extra_forbidden":
            remedy = f"{fault.remedy}; known: {', '.join(kind.model_fields)}"
            raise InputError(fault.field, fault.value, remedy) from error
        raise fault from error


def parse_base_rows(rows: Sequence[str]) -> BaseSettings:
    """A base as on the command line: "toon" or another shipped one, a folder, a hub id, a
    transformer's .safetensors (`dit`), or `field=path` rows. Raises InputError for anything
    else."""
    if all("=" in row for row in rows):
        return parse_base(dict(row.split("=", 1) for row in rows))
    if len(rows) > 1:
        raise InputError(
            "base",
            " ".join(rows),
            "name one base, or write each as field=path, e.g. dit=model.safetensors",
        )
    (row,) = rows
    if row in tuple(SHIPPED):
        return parse_base(row)
    if row.endswith(".safetensors"):
        raise InputError(
            "base", row, f"write --base dit={row}, and text_encoder=, vae=, tokenizers= with it"
        )
    is_folder = Path(row).exists() or row.count("/") != 1
    return parse_base({"folder": row} if is_folder else {"hub": row})


def load_base(base: Base, sha256: str = "") -> "Family":
    """Load a base model; files on the hub are downloaded. With `sha256` the files are not hashed
    again.

    Raises InputError naming the field and the path of whatever is missing or wrong.
    """
    settings = parse_base(base)
    device, dtype = device_dtype(settings)
    places = find(settings)
    family: Family = _file(settings.family, "load").load(
        places, settings, dtype, device, sha256 or base_sha256(settings)
    )
    return family


def device_dtype(settings: BaseSettings) -> "tuple[str, torch.dtype]":
    """Where a base computes on this machine, and in which dtype its weights are."""
    import torch

    device = find_device(settings.device, "base.device")
    auto = settings.dtype == "auto"
    return str(device), default_dtype(device) if auto else getattr(torch, settings.dtype)


def outline(base: Base) -> "Outline":
    """The outline of a base, without reading a weight or using the network. Raises InputError for
    files that do not fit; absent files are listed in `missing`."""
    settings = parse_base(base)
    places = locate(settings, download=False)
    missing = {str(one): one for one in places.values() if isinstance(one, InputError)}
    there = {name: place for name, place in places.items() if isinstance(place, Place)}
    found: Outline = _file(settings.family, "memory").make_outline(
        there, settings, tuple(missing.values())
    )
    return found


def is_shipped(settings: BaseSettings) -> bool:
    """Whether a base comes with the package."""
    return settings.folder in [row["folder"] for row in SHIPPED.values()]


def base_facts(base: Base) -> BaseFacts | None:
    """The facts of a base that ships with the package, found without torch: its files were tested
    with it. None for another base, whose `outline` checks its files."""
    settings = parse_base(base)
    if not is_shipped(settings):
        return None
    found: BaseFacts = _file(settings.family, "spec").facts_of_folder(settings.folder)
    return found


def outline_of(family: "Family") -> "Outline":
    """The outline of a base that was loaded."""
    found: Outline = _file(family.spec.name, "memory").outline_of(family)
    return found


def examine(settings: BaseSettings, component: str, place: Place) -> Part:
    """What a file's header says of a component. Raises InputError when it does not fit."""
    found: Part = _file(settings.family, "doctor").examine(component, place)
    return found


def caption_check(settings: BaseSettings) -> Callable[[Iterable[str]], Iterator[tuple[str, str]]]:
    """What a base will not read of some captions, (what, remedy), by those of its tokenizers that
    load."""
    return partial(_file(settings.family, "doctor").caption_findings, _tokenizers(settings))


def text_rows(settings: BaseSettings, captions: Collection[str]) -> int | None:
    """How many rows of text the longest of some captions takes in a training step, by the base's
    tokenizers alone; None where the one that counts is not there, or without captions."""
    found: int | None = _file(settings.family, "doctor").text_rows(_tokenizers(settings), captions)
    return found


def _tokenizers(settings: BaseSettings) -> dict[str, Any]:
    """Component → its tokenizer, of those that load."""
    found = {}
    places = locate(settings, download=False)
    for part in components(settings.family):
        place = places[part.name]
        if part.kind == "tokenizer" and isinstance(place, Place):
            with suppress(InputError):
                found[part.name] = _file(settings.family, "load").tokenizer(part.name, place)
    return found


def empty_pipeline(family: str, folder: Path) -> tuple[Any, dict[str, Any], FamilySpec]:
    """diffusers' own pipeline around the components into which it loads a LoRA, with the configs in
    `folder`, their weights uninitialised; these models; and the facts of their base."""
    found: tuple[Any, dict[str, Any], FamilySpec] = _file(family, "load").empty_pipeline(folder)
    return found


def export_single_files(settings: BaseSettings, out: Path) -> list[Path]:
    """Write a base in diffusers' folder layout as the single files that ComfyUI reads."""
    written: list[Path] = _file(settings.family, "load").export_single_files(settings.folder, out)
    return written


@cache
def known_specs() -> tuple[FamilySpec, ...]:
    """The facts of every family's published base, of its relatives, and of the bases that ship with
    the package."""
    found: list[FamilySpec] = []
    for family in FAMILIES:
        spec = _file(family, "spec")
        found += [spec.published(), *spec.relatives()]
    for row in SHIPPED.values():
        found.append(_file(str(row["family"]), "spec").spec_of_folder(row["folder"]))
    return tuple(found)


def spec_of_shapes(
    family: str, blocks: int, shapes: Mapping[str, tuple[int, int]] | None = None
) -> FamilySpec:
    """The facts as far as files tell them: the layers of a base of that many blocks.

    With `shapes` (out, in) only the layers that they name; without, all of them and sizes of 0,
    enough to know names.
    """
    found: FamilySpec = _file(family, "spec").spec_of_shapes(blocks, shapes)
    return found


def count_blocks(family: str, keys: Iterable[str]) -> int:
    """The number of blocks in names of tensors or layers, at least 1."""
    found: int = _file(family, "lora_layouts").count_blocks(keys)
    return found


def lora_blocks(family: str, keys: Iterable[str], said: int = 0) -> int:
    """The number of blocks of the base of a LoRA with these keys, whose header says `said`, or
    0."""
    found: int = _file(family, "lora_layouts").lora_blocks(keys, said)
    return found


@cache
def lora_names() -> tuple[LoraNames, ...]:
    """What LoRA files write of every family's components."""
    found: list[LoraNames] = []
    for family in FAMILIES:
        found += _file(family, "lora_layouts").LORA_NAMES
    return tuple(found)


def loader_rules(family: str) -> LoaderRules:
    """What other programs load of a family's LoRA files."""
    found: LoaderRules = _file(family, "loaders").RULES
    return found


def licence_rows() -> dict[str, LicensedBase]:
    """Base name → its licence: every family's own, and those of licences.py."""
    rows: dict[str, LicensedBase] = {}
    for family in FAMILIES:
        rows |= _file(family, "licences").BASES
    return rows | BASES


def base_sha256(base: Base, events: Events | None = None) -> str:
    """The identity of a base: one hash over the files it is loaded from. Loads nothing."""
    settings = parse_base(base)
    places = find(settings)
    paths = {place.path for place in places.values()}
    size = sum(
        file.stat().st_size
        for path in paths
        for file in ([path] if path.is_file() else path.glob("*"))
    )
    if events is not None and settings.comfyui is not None:
        taken = ", ".join(f"{role} {place.path}" for role, place in places.items())
        events.note(f"found in {settings.comfyui}: {taken}")
    if events is None or size < _TOLD:
        hashes = {path: _hash(path) for path in paths}
    else:
        with events.task("hash the base's files", total=len(paths)) as task:
            hashes = {}
            for path in paths:
                hashes[path] = _hash(path)
                task.advance()
    identity: dict[str, object] = {role: hashes[place.path] for role, place in places.items()}
    return hash_json(identity | settings.changes())


def find(settings: BaseSettings) -> dict[str, Place]:
    """Component → its place; what is on the hub is downloaded. Raises InputError naming the first
    that is not there."""
    places = locate(settings, download=True)
    for role, place in places.items():
        if isinstance(place, InputError):
            raise place
        assert isinstance(place, Place), role
    return {role: place for role, place in places.items() if isinstance(place, Place)}


def locate(settings: BaseSettings, download: bool) -> dict[str, Place | InputError]:
    """Component → its place, or what is missing. Raises InputError for fields that exclude each
    other."""
    parts = components(settings.family)
    if settings.folder is not None:
        for name in ("hub", "comfyui", *(part.field for part in parts)):
            if getattr(settings, name) is not None:
                raise InputError(
                    "base", f"folder and {name}", "give a folder, or single files, not both"
                )
    found: dict[str, Path | InputError] = {}
    if settings.comfyui is not None:
        found = _file(settings.family, "comfyui").find_parts(settings)
    named = {part.name: _named(settings, part, found) for part in parts}
    wanted = [name for name, path in named.items() if not isinstance(path, Path)]
    root, field, lacking = settings.folder, "base.folder", None
    if settings.hub is not None and wanted:
        field = "base.hub"
        root = snapshot(settings.hub, wanted, download)
        lacking = InputError(
            field, settings.hub, "is not in the local cache; it is downloaded when it is needed"
        )
    return {
        part.name: (
            lacking
            if lacking and root is None and part.name in wanted
            else _place(part, named[part.name], root, field)
        )
        for part in parts
    }


def _named(
    settings: BaseSettings, part: Component, found: Mapping[str, Path | InputError]
) -> Path | InputError | None:
    """Where the settings say that a component is; or what was found in a folder of ComfyUI."""
    given: Path | None = getattr(settings, part.field)
    if given is None and part.within:
        given = getattr(settings, part.within)
    if given is not None:
        return given / part.name if part.kind == "tokenizer" else given
    return found.get(part.name if part.kind == "tokenizer" else part.field)


def _place(
    part: Component, given: Path | InputError | None, root: Path | None, field: str
) -> Place | InputError:
    if isinstance(given, Path):
        place = Place(f"base.{part.field}", given, single=True)
    elif root is not None:
        place = Place(field, root / part.name, single=False)
    elif given is not None:
        return given
    else:
        return InputError(f"base.{part.field}", "missing", part.remedy)
    there = place.path.is_file() or place.path.is_dir()  # a pipe or a device is neither
    return place if there else InputError(place.field, place.path, "no such file or folder")


def _hash(path: Path) -> str:
    return tree_hash(path) if path.is_dir() else sha256_file(path)
