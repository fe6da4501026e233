"""From a recipe's `base` to a loaded family, or to its outline. Nothing heavy is imported before
that."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from onmodel.errors import InputError
from onmodel.families.hub import snapshot
from onmodel.hashing import hash_json, sha256_file, tree_hash
from onmodel.progress import Progress
from onmodel.toon.base import TOON_BASE

if TYPE_CHECKING:
    from onmodel.families.anima.memory import Outline
    from onmodel.families.anima.parts import Source
    from onmodel.families.protocol import Family, FamilySpec
    from onmodel.weights import WeightsFile


class BaseSettings(BaseModel):
    """Where a base's weights lie: a diffusers `folder`, or ComfyUI's single files with the folder
    of the tokenizers.

    `hub` is the id of a diffusers repository, `owner/name` or `owner/name@revision`; what is not
    given comes from it. `dtype` is `float32` or `bfloat16`, `device` a torch device; `auto` is CUDA
    in bfloat16 where there is a card and the CPU in float32 where there is none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["anima"] = "anima"
    folder: Path | None = None
    dit: Path | None = None
    text_encoder: Path | None = None
    vae: Path | None = None
    tokenizers: Path | None = None
    hub: str | None = None
    dtype: str = "auto"
    device: str = "auto"


Base = str | Mapping[str, Any] | BaseSettings

_TOON = BaseSettings(folder=TOON_BASE, dtype="float32", device="cpu")
# Component of a base → the field that names its single file.
_FIELDS = {
    "transformer": "dit",
    "text_conditioner": "dit",
    "text_encoder": "text_encoder",
    "vae": "vae",
    "tokenizer": "tokenizers",
    "t5_tokenizer": "tokenizers",
}
# A block's number in the spellings of keys.py, and not that of a block of the text conditioner.
_BLOCK = re.compile(r"(?!.*(?:llm_adapter|text_conditioner)).*?blocks[._](\d{1,9})[._]")
_MOST_BLOCKS = 200  # a file may say anything; what is beyond is unknown then
_TOLD = 2**30  # bytes of files from which hashing them takes seconds and shows a bar


def parse_base(base: Base) -> BaseSettings:
    """A recipe's `base` as settings: "toon", or a table. Raises InputError for what is wrong in
    it."""
    if isinstance(base, BaseSettings):
        return base
    if not isinstance(base, Mapping):
        if base != "toon":
            raise InputError(
                "base", base, 'write "toon", or a table such as { family = "anima", folder = "…" }'
            )
        return _TOON
    try:
        settings = BaseSettings.model_validate(dict(base))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(["base", *map(str, first["loc"])])
        known = (
            f"; known: {', '.join(BaseSettings.model_fields)}"
            if first["type"] == "extra_forbidden"
            else ""
        )
        raise InputError(field, first.get("input"), first["msg"] + known) from error
    if settings.dtype not in ("auto", "float32", "bfloat16"):
        raise InputError(
            "base.dtype", settings.dtype, "use bfloat16 or float32; Anima overflows in float16"
        )
    return settings


def parse_base_rows(rows: Sequence[str]) -> BaseSettings:
    """A base as on the command line: "toon", a folder, a hub id, a transformer's .safetensors
    (`dit`), or `field=path` rows. Raises InputError for anything else."""
    if all("=" in row for row in rows):
        return parse_base(dict(row.split("=", 1) for row in rows))
    if len(rows) > 1:
        raise InputError(
            "base",
            " ".join(rows),
            "name one base, or write each as field=path, e.g. dit=model.safetensors",
        )
    (row,) = rows
    if row == "toon":
        return parse_base(row)
    if row.endswith(".safetensors"):
        raise InputError(
            "base", row, f"write --base dit={row}, and text_encoder=, vae=, tokenizers= with it"
        )
    is_folder = Path(row).exists() or row.count("/") != 1
    return parse_base({"folder": row} if is_folder else {"hub": row})


def load_base(base: Base, sha256: str = "") -> "Family":
    """Load a base model, downloading what is on the hub. `sha256` spares hashing it again.

    Raises InputError naming the field and the path of whatever is missing or wrong.
    """
    settings = parse_base(base)
    places = find(settings)

    import torch

    from onmodel.families.anima.family import Anima
    from onmodel.families.anima.parts import CLASSES, Parts, build

    device = (
        settings.device
        if settings.device != "auto"
        else "cuda"
        if torch.cuda.is_available()
        else "cpu"
    )
    dtype = (
        settings.dtype if settings.dtype != "auto" else "float32" if device == "cpu" else "bfloat16"
    )
    parts = {
        role: (
            build(source(role, place), getattr(torch, dtype), device)
            if role in CLASSES
            else load_tokenizer_at(role, place)
        )
        for role, place in places.items()
    }
    return Anima(Parts(**parts), sha256 or base_sha256(settings))


def outline(base: Base) -> "Outline":
    """What is known of a base without reading a weight or asking the network. Raises InputError for
    files that do not fit; what is not there is listed in `missing`.
    """
    from onmodel.families.anima.memory import make_outline
    from onmodel.families.anima.parts import CLASSES

    places = locate(parse_base(base), download=False)
    missing = [place for place in places.values() if isinstance(place, InputError)]
    sources = {
        role: source(role, place)
        for role, place in places.items()
        if role in CLASSES and isinstance(place, Place)
    }
    return make_outline(sources, tuple({str(error): error for error in missing}.values()))


def base_sha256(base: Base, progress: Progress | None = None) -> str:
    """The identity of a base: one hash over the files it is loaded from. Loads nothing."""
    places = find(parse_base(base))
    paths = {place.path for place in places.values()}
    size = sum(
        file.stat().st_size
        for path in paths
        for file in ([path] if path.is_file() else path.glob("*"))
    )
    if progress is None or size < _TOLD:
        hashes = {path: _hash(path) for path in paths}
    else:
        with progress.task("hash the base's files", total=len(paths)) as task:
            hashes = {}
            for path in paths:
                hashes[path] = _hash(path)
                task.advance()
    return hash_json({role: hashes[place.path] for role, place in places.items()})


def spec_of_loras(paths: Sequence[Path], *, dora: bool = False) -> "FamilySpec":
    """The model that some LoRA files were made for, as far as they tell: names by the family's
    table, sizes as found.

    Raises InputError for a file that is no LoRA of a known family, and for a DoRA unless it is
    asked for.
    """
    from onmodel.families.anima.spec import spec_of_shapes
    from onmodel.lora.file import layer_shapes
    from onmodel.lora.layouts import BLOCKS_KEY
    from onmodel.weights import WeightsFile, lora_weights

    blocks = 1
    for path in paths:
        with WeightsFile(lora_weights(path), "lora") as file:
            said = file.metadata.get(BLOCKS_KEY, "")
            told = min(int(said), _MOST_BLOCKS) if re.fullmatch(r"[0-9]{1,9}", said) else 1
            blocks = max(blocks, told, _count_blocks(file.entries))
    shapes = layer_shapes(paths, spec_of_shapes(blocks), dora)
    _check_alike(paths, shapes)
    return spec_of_shapes(blocks, shapes)


def _check_alike(paths: Sequence[Path], shapes: Mapping[str, tuple[int, int]]) -> None:
    """Raise InputError where one layer has another size in another block: no base has such
    blocks."""
    first: dict[str, tuple[str, tuple[int, int]]] = {}
    for name, shape in shapes.items():
        other, wanted = first.setdefault(re.sub(r"^blocks\.\d+\.", "", name), (name, shape))
        if shape != wanted:
            said = f"{name} is {shape[0]}×{shape[1]}, {other} is {wanted[0]}×{wanted[1]}"
            raise InputError(
                "lora",
                paths[0] if len(paths) == 1 else ", ".join(map(str, paths)),
                f"{said}; blocks of one base are alike, so use LoRAs of one base",
            )


def layers_of_checkpoint(file: "WeightsFile") -> "tuple[FamilySpec, dict[str, str]]":
    """The model in a whole transformer's file, and the key of each layer's weight, by the base's
    names.

    Raises InputError when it is none of a known family, or a layer is there twice or is no matrix.
    """
    from onmodel.families.anima.spec import spec_of_shapes
    from onmodel.lora.layouts import name_table

    blocks = _count_blocks(file.entries)
    table = name_table(spec_of_shapes(blocks))
    keys: dict[str, str] = {}
    shapes: dict[str, tuple[int, int]] = {}
    for key, entry in file.entries.items():
        if (linear := table.get(key.removesuffix(".weight"))) is None:
            continue
        if linear.name in keys:
            raise InputError(
                file.field, file.path, f"holds {linear.name} twice ({key}); save one model alone"
            )
        if len(entry.shape) != 2 or 0 in entry.shape:
            raise InputError(
                file.field,
                file.path,
                f"{key} is {list(entry.shape)}, no matrix; get the file again",
            )
        keys[linear.name], shapes[linear.name] = key, (entry.shape[0], entry.shape[1])
    if "x_embedder.proj.1" not in keys:
        raise InputError(
            file.field, file.path, "is no whole transformer of anima; name its checkpoint file"
        )
    return spec_of_shapes(blocks, shapes), keys


def is_checkpoint(path: Path) -> bool:
    """Whether a file holds whole weights and not a LoRA. Raises InputError when it is no
    safetensors file."""
    from onmodel.weights import WeightsFile

    if os.path.isdir(path):
        return False
    with WeightsFile(path, "lora") as file:
        return any(
            key.endswith(("x_embedder.proj.1.weight", "patch_embed.proj.weight"))
            for key in file.entries
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a component lies, and the field that says so. `single`: in a single file, not in a
    folder of its own."""

    field: str
    path: Path
    single: bool


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
    if settings.folder is not None:
        for name in ("hub", *_FIELDS.values()):
            if getattr(settings, name) is not None:
                raise InputError(
                    "base", f"folder and {name}", "give a folder, or single files, not both"
                )
    wanted = [role for role, field in _FIELDS.items() if getattr(settings, field) is None]
    root, field, lacking = settings.folder, "base.folder", None
    if settings.hub is not None and wanted:
        field = "base.hub"
        root = snapshot(settings.hub, wanted, download)
        lacking = InputError(
            field, settings.hub, "is not in the local cache; it is downloaded when it is needed"
        )
    return {
        role: (
            lacking
            if lacking and root is None and role in wanted
            else _place(settings, role, root, field)
        )
        for role in _FIELDS
    }


def source(role: str, place: Place) -> "Source":
    """What a component of the model is read from. Raises InputError when its file is something
    else."""
    from onmodel.families.anima.parts import folder_source
    from onmodel.families.anima.single_file import single_source

    return (single_source if place.single else folder_source)(role, place.path, place.field)


def load_tokenizer_at(role: str, place: Place) -> Any:
    """The tokenizer at a place. Raises InputError when there is none."""
    from onmodel.families.anima.parts import load_tokenizer

    return load_tokenizer(role, place.path, place.field)


def _place(settings: BaseSettings, role: str, root: Path | None, field: str) -> Place | InputError:
    name = _FIELDS[role]
    given: Path | None = getattr(settings, name)
    if given is not None:
        place = Place(f"base.{name}", given / role if name == "tokenizers" else given, single=True)
    elif root is not None:
        place = Place(field, root / role, single=False)
    else:
        return InputError(
            f"base.{name}", "missing", _TOKENIZERS if name == "tokenizers" else _NAME_IT
        )
    there = place.path.is_file() or place.path.is_dir()  # a pipe or a device is neither
    return place if there else InputError(place.field, place.path, "no such file or folder")


def _count_blocks(keys: Iterable[str]) -> int:
    numbers = [int(match[1]) for key in keys if (match := _BLOCK.match(key))]
    return min(1 + max(numbers, default=0), _MOST_BLOCKS)


def _hash(path: Path) -> str:
    return tree_hash(path) if path.is_dir() else sha256_file(path)


_NAME_IT = "name the file, or give a diffusers folder or hub id instead"
_TOKENIZERS = (
    "single files hold no tokenizers; name a folder with `tokenizer/` (Qwen3's) and `t5_tokenizer/`"
    " (T5's), as in the base's diffusers repository, or that repository as `hub`"
)
