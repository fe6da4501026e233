"""From a recipe's `base` to a loaded family, or to its outline. Nothing heavy is imported before
that."""

from collections.abc import Mapping
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
    from onmodel.families.protocol import Family


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


def _hash(path: Path) -> str:
    return tree_hash(path) if path.is_dir() else sha256_file(path)


_NAME_IT = "name the file, or give a diffusers folder or hub id instead"
_TOKENIZERS = (
    "single files hold no tokenizers; name a folder with `tokenizer/` (Qwen3's) and `t5_tokenizer/`"
    " (T5's), as in the base's diffusers repository, or that repository as `hub`"
)
