"""From a recipe's `base` to a loaded family. Nothing heavy is imported before something is loaded."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from onmodel.errors import InputError
from onmodel.hashing import hash_json, sha256_file, tree_hash
from onmodel.toon.base import TOON_BASE

if TYPE_CHECKING:
    from onmodel.models.family import Family, FamilySpec
    from onmodel.models.weights import WeightsFile


class BaseSettings(BaseModel):
    """Where a base's weights lie: a diffusers `folder`, or ComfyUI's single files with the folder of the tokenizers.

    `dtype` is `float32` or `bfloat16`, `device` a torch device; `auto` is CUDA in bfloat16 where there is a card and
    the CPU in float32 where there is none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["anima"] = "anima"
    folder: Path | None = None
    dit: Path | None = None
    text_encoder: Path | None = None
    vae: Path | None = None
    tokenizers: Path | None = None
    dtype: str = "auto"
    device: str = "auto"


Base = str | Mapping[str, Any] | BaseSettings

_TOON = BaseSettings(folder=TOON_BASE, dtype="float32", device="cpu")
_FILES = ("dit", "text_encoder", "vae", "tokenizers")
_FOLDERS = ("transformer", "text_conditioner", "text_encoder", "vae", "tokenizer", "t5_tokenizer")


def parse_base(base: Base) -> BaseSettings:
    """A recipe's `base` as settings: "toon", or a table. Raises InputError for what is wrong in it."""
    if isinstance(base, BaseSettings):
        return base
    if isinstance(base, str):
        if base != "toon":
            raise InputError("base", base, 'write "toon", or a table such as { family = "anima", folder = "…" }')
        return _TOON
    try:
        return BaseSettings.model_validate(dict(base))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(["base", *map(str, first["loc"])])
        known = f"; known: {', '.join(BaseSettings.model_fields)}" if first["type"] == "extra_forbidden" else ""
        raise InputError(field, first.get("input"), first["msg"] + known) from error


def load_base(base: Base) -> "Family":
    """Load a base model. Raises InputError naming the field and the path of whatever is missing or wrong."""
    settings = parse_base(base)
    paths = _paths(settings)

    import torch

    from onmodel.models.anima.family import Anima
    from onmodel.models.anima.parts import load_folder
    from onmodel.models.anima.single_file import load_single_files

    device = settings.device if settings.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    dtype = settings.dtype if settings.dtype != "auto" else "float32" if device == "cpu" else "bfloat16"
    if dtype not in ("float32", "bfloat16"):
        raise InputError("base.dtype", dtype, "use bfloat16 or float32; Anima overflows in float16")
    kind = getattr(torch, dtype)
    if settings.folder is not None:
        parts = load_folder(settings.folder, kind, device)
    else:
        dit, text_encoder, vae, tokenizers = (paths[name] for name in _FILES)
        parts = load_single_files(dit, text_encoder, vae, tokenizers, kind, device)
    return Anima(parts, base_sha256(settings))


def base_sha256(base: Base) -> str:
    """The identity of a base: one hash over the files it is loaded from. Loads nothing."""
    paths = _paths(parse_base(base))
    return hash_json({name: tree_hash(path) if path.is_dir() else sha256_file(path) for name, path in paths.items()})


def spec_of_loras(paths: Sequence[Path]) -> "FamilySpec":
    """The model that some LoRA files were made for, as far as they tell: names by the family's table, sizes as found.

    Raises InputError for a file that is no LoRA of a known family.
    """
    from onmodel.models.anima.spec import spec_of_shapes
    from onmodel.models.lora_file import layer_shapes
    from onmodel.models.weights import WeightsFile

    keys: list[str] = []
    for path in paths:
        with WeightsFile(path / "adapter_model.safetensors" if path.is_dir() else path, "lora") as file:
            keys += file.entries
    blocks = _count_blocks(keys)
    return spec_of_shapes(blocks, layer_shapes(paths, spec_of_shapes(blocks)))


def layers_of_checkpoint(file: "WeightsFile") -> "tuple[FamilySpec, dict[str, str]]":
    """The model in a whole transformer's file, and the key of each layer's weight, by the base's names.

    Raises InputError when it is none of a known family.
    """
    from onmodel.models.anima.spec import spec_of_shapes
    from onmodel.models.keys import name_table

    blocks = _count_blocks(file.entries)
    table = name_table(spec_of_shapes(blocks))
    keys = {linear.name: key for key in file.entries if (linear := table.get(key.removesuffix(".weight"))) is not None}
    if "x_embedder.proj.1" not in keys:
        raise InputError(file.field, file.path, "is no whole transformer of anima; name its checkpoint file")
    shapes = {name: (file.entries[key].shape[0], file.entries[key].shape[1]) for name, key in keys.items()}
    return spec_of_shapes(blocks, shapes), keys


def is_checkpoint(path: Path) -> bool:
    """Whether a file holds whole weights and not a LoRA. Raises InputError when it is no safetensors file."""
    from onmodel.models.weights import WeightsFile

    if path.is_dir():
        return False
    with WeightsFile(path, "lora") as file:
        return any(key.endswith(("x_embedder.proj.1.weight", "patch_embed.proj.weight")) for key in file.entries)


def _count_blocks(keys: Iterable[str]) -> int:
    numbers = [int(match[1]) for key in keys if (match := _BLOCK.match(key))]
    return min(1 + max(numbers, default=0), 200)  # a key may say anything; what is beyond is unknown then


# A block's number in the spellings of keys.py, and not that of a block of the text conditioner.
_BLOCK = re.compile(r"(?!.*(?:llm_adapter|text_conditioner)).*?blocks[._](\d+)[._]")


def _paths(settings: BaseSettings) -> dict[str, Path]:
    """The folders or files that a base is loaded from, all of them there."""
    if settings.folder is not None:
        given = [name for name in _FILES if getattr(settings, name) is not None]
        if given:
            raise InputError("base", f"folder and {given[0]}", "give a folder, or single files, not both")
        paths = {name: settings.folder / name for name in _FOLDERS}
        fields = dict.fromkeys(paths, "base.folder")
    else:
        paths, fields = {}, {name: f"base.{name}" for name in _FILES}
        for name in _FILES:
            path = getattr(settings, name)
            if path is None:
                hint = _TOKENIZERS if name == "tokenizers" else "name the file, or give a diffusers folder instead"
                raise InputError(f"base.{name}", "missing", hint)
            paths[name] = path
    for name, path in paths.items():
        if not path.exists():
            raise InputError(fields[name], path, "no such file or folder")
    return paths


_TOKENIZERS = (
    "single files hold no tokenizers; name a folder with `tokenizer/` (Qwen3's) and `t5_tokenizer/` (T5's), "
    "as in the base's diffusers repository"
)
