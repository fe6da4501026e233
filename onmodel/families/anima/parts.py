"""The pieces that an Anima is put together from, and where a diffusers folder has them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from diffusers import AnimaTextConditioner, AutoencoderKLQwenImage, CosmosTransformer3DModel
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model, T5Tokenizer

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
    "transformer": CosmosTransformer3DModel,
    "text_conditioner": AnimaTextConditioner,
    "text_encoder": Qwen3Model,
    "vae": AutoencoderKLQwenImage,
}


def make(role: str, config: Config) -> Any:
    """A part of the real class."""
    cls = CLASSES[role]
    return cls(Qwen3Config(**config)) if cls is Qwen3Model else cls.from_config(config)


def empty(role: str, config: Config) -> Any:
    """A part of the real class, its weights on the meta device."""
    return without_weights(partial(make, role), config)


def part_source(
    role: str, config: Config, tensors: Tensors, rename: Callable[[str], str]
) -> PartSource:
    """The source of a part of Anima."""
    return PartSource("Anima", role, partial(make, role), config, tensors, rename)


@dataclass(frozen=True)
class Parts:
    """The parts of a base, on one device and in one dtype; a Qwen2 and a T5 tokenizer."""

    transformer: LazyPart
    text_conditioner: LazyPart
    text_encoder: LazyPart
    vae: LazyPart
    tokenizer: Any
    t5_tokenizer: Any


def load_tokenizer(role: str, folder: Path, field: str) -> Any:
    """The Qwen2 (`tokenizer`) or T5 tokenizer (`t5_tokenizer`) of a folder."""
    if not (folder / "tokenizer_config.json").is_file():
        raise InputError(
            field, folder, "no tokenizer here; copy it from the base's diffusers repository"
        )
    kind = Qwen2Tokenizer if role == "tokenizer" else T5Tokenizer
    return kind.from_pretrained(folder, local_files_only=True)


def plain_qwen(tensors: Tensors) -> Tensors:
    """Qwen3's tensors without the `model.` that its language-model class puts before them."""
    inner = tensors.under("model.")
    return inner if inner.places else tensors


def folder_source(role: str, folder: Path, field: str) -> PartSource:
    """A component of a folder of `AnimaModularPipeline.save_pretrained`. Raises InputError for
    another class."""
    config = read_config(folder, field)
    found = config.get("_class_name", CLASSES[role].__name__)
    if found != CLASSES[role].__name__:
        raise InputError(field, folder, f"is {found}, Anima has {CLASSES[role].__name__} here")
    tensors = read_tensors(folder, field)
    if role == "text_encoder":
        tensors = plain_qwen(tensors)
    return part_source(role, config, tensors, str)
