"""The pieces that an SDXL is put together from, and where a diffusers folder has them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from onmodel.errors import InputError
from onmodel.families.parts import (
    LazyPart,
    PartSource,
    Tensors,
    read_config,
    read_tensors,
    without_weights,
)
from onmodel.families.protocol import Config

CLASSES: dict[str, Any] = {
    "unet": UNet2DConditionModel,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
    "vae": AutoencoderKL,
}


@dataclass(frozen=True)
class SdxlParts:
    """The parts of a base, on one device and in one dtype; two CLIP tokenizers."""

    unet: LazyPart
    text_encoder: LazyPart
    text_encoder_2: LazyPart
    vae: LazyPart
    tokenizer: Any
    tokenizer_2: Any


def make(role: str, config: Config) -> Any:
    """A part of the real class."""
    cls = CLASSES[role]
    return cls(CLIPTextConfig(**config)) if role.startswith("text") else cls.from_config(config)


def empty(role: str, config: Config) -> Any:
    """A part of the real class, its weights on the meta device."""
    return without_weights(partial(make, role), config)


def part_source(
    role: str, config: Config, tensors: Tensors, rename: Callable[[str], str] = str
) -> PartSource:
    """The source of a part of SDXL."""
    return PartSource("SDXL", role, partial(make, role), config, tensors, rename)


def load_tokenizer(component: str, folder: Path, field: str) -> Any:
    """A CLIP tokenizer; the second one pads with "!". Raises InputError when there is none."""
    if not any((folder / name).is_file() for name in ("vocab.json", "tokenizer.json")):
        raise InputError(
            field, folder, "no tokenizer here; copy it from a diffusers repository of SDXL"
        )
    made = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    if component == "tokenizer_2":  # ComfyUI keeps one folder for both
        made.pad_token = "!"
    return made


def folder_source(role: str, folder: Path, field: str) -> PartSource:
    """A component of a folder of `StableDiffusionXLPipeline.save_pretrained`. Raises InputError for
    another class."""
    config = read_config(folder, field)
    name = CLASSES[role].__name__
    found = config.get("_class_name") or (config.get("architectures") or [name])[0]
    if found != name:
        raise InputError(field, folder, f"is {found}, SDXL has {name} here")
    tensors = read_tensors(folder, field)
    if role == "text_encoder":  # files of transformers 4 have a `text_model` here too
        inner = tensors.under("text_model.")
        tensors = inner if inner.places else tensors
    return part_source(role, config, tensors)
