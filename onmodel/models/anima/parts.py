"""The pieces that an Anima is put together from: filled tensor by tensor, and found in a diffusers folder."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from accelerate.utils import set_module_tensor_to_device
from diffusers import AnimaTextConditioner, AutoencoderKLQwenImage, CosmosTransformer3DModel
from torch import Tensor, nn
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model, T5Tokenizer

from onmodel.errors import InputError
from onmodel.models.weights import open_weights

logger = logging.getLogger(__name__)

CLASSES: dict[str, Any] = {
    "transformer": CosmosTransformer3DModel,
    "text_conditioner": AnimaTextConditioner,
    "text_encoder": Qwen3Model,
    "vae": AutoencoderKLQwenImage,
}
_FLOATS = (torch.float32, torch.bfloat16, torch.float16)
# Tensors of published files that the classes compute themselves, that count training steps, or that make text.
_UNUSED = re.compile(r"pos_embedder\.|_extra_state$|^accum_|^logvar\.|\.inv_freq$|^lm_head\.")


@dataclass(frozen=True)
class Parts:
    """Models of `CLASSES`, without gradients, on one device and in one dtype; a Qwen2 and a T5 tokenizer."""

    transformer: Any
    text_conditioner: Any
    text_encoder: Any
    vae: Any
    tokenizer: Any
    t5_tokenizer: Any


@dataclass(frozen=True)
class Tensors:
    """The tensors under one prefix of open files: `places` maps a name without the prefix to its file and key."""

    path: Path
    field: str
    places: Mapping[str, tuple[Any, str]]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(file.get_slice(key).get_shape()) for name, (file, key) in self.places.items()}

    def read(self, name: str) -> Tensor:
        file, key = self.places[name]
        return file.get_tensor(key)

    def under(self, prefix: str) -> "Tensors":
        """Those whose names begin with `prefix`, called without it."""
        places = {name.removeprefix(prefix): place for name, place in self.places.items() if name.startswith(prefix)}
        return Tensors(self.path, self.field, places)

    def beside(self, prefix: str) -> "Tensors":
        """Those whose names do not begin with `prefix`."""
        return Tensors(self.path, self.field, {n: p for n, p in self.places.items() if not n.startswith(prefix)})

    def words(self) -> dict[str, str]:
        """The header's words of the first file."""
        file, _ = next(iter(self.places.values()))
        return dict(file.metadata() or {})


@contextmanager
def open_tensors(path: Path, field: str) -> Iterator[Tensors]:
    """Open a safetensors file, or all of a folder's. Raises InputError for what is missing or torn."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    with ExitStack() as stack:
        opened = [stack.enter_context(open_weights(file, field)) for file in files]
        places = {key: (file, key) for file in opened for key in file.keys()}  # noqa: SIM118
        if not places:
            raise InputError(field, path, "holds no weights")
        yield Tensors(path, field, places)


def build(
    role: str,
    config: Mapping[str, Any],
    tensors: Tensors,
    rename: Callable[[str], str],
    dtype: torch.dtype,
    device: str,
) -> Any:
    """A part with its weights, read one by one so that none is in memory twice.

    `rename` gives the file's name for a tensor of the class. Raises InputError for missing, misshapen or quantised
    tensors, and tells of those that nothing uses.
    """
    cls = CLASSES[role]
    with init_empty_weights(include_buffers=False):
        model: nn.Module = cls(Qwen3Config(**config)) if cls is Qwen3Model else cls.from_config(config)
    shapes, wanted = tensors.shapes, {name: rename(name) for name in model.state_dict()}
    _refuse(role, tensors, {wanted[name]: tuple(tensor.shape) for name, tensor in model.state_dict().items()}, shapes)
    for name, stored in wanted.items():
        tensor = tensors.read(stored)
        if tensor.dtype not in _FLOATS:
            raise InputError(tensors.field, tensors.path, f"{stored} is {tensor.dtype}; use the bfloat16 file")
        set_module_tensor_to_device(model, name, device, value=tensor.to(dtype, copy=True))  # not the mapped file
    return model.to(device).eval().requires_grad_(False)


def load_folder(folder: Path, dtype: torch.dtype, device: str) -> Parts:
    """Load a diffusers folder (`AnimaModularPipeline.save_pretrained`). Raises InputError naming what is wrong."""
    models = {role: _load_component(folder / role, role, dtype, device) for role in CLASSES}
    tokenizer, t5_tokenizer = load_tokenizers(folder, "base.folder")
    return Parts(**models, tokenizer=tokenizer, t5_tokenizer=t5_tokenizer)


def load_tokenizers(folder: Path, field: str) -> tuple[Any, Any]:
    """The Qwen2 and T5 tokenizers in `tokenizer/` and `t5_tokenizer/` of a folder."""
    for name in ("tokenizer", "t5_tokenizer"):
        if not (folder / name / "tokenizer_config.json").is_file():
            raise InputError(field, folder / name, "no tokenizer here; copy it from the base's diffusers repository")
    return (
        Qwen2Tokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
        T5Tokenizer.from_pretrained(folder / "t5_tokenizer", local_files_only=True),
    )


def read_config(folder: Path) -> dict[str, Any]:
    """A component's `config.json`."""
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("base.folder", folder / "config.json", f"cannot be read ({error})") from error
    return config


def plain_qwen(tensors: Tensors) -> Tensors:
    """Qwen3's tensors without the `model.` that its language-model class puts before them."""
    inner = tensors.under("model.")
    return inner if inner.places else tensors


def _load_component(folder: Path, role: str, dtype: torch.dtype, device: str) -> Any:
    config = read_config(folder)
    found = config.get("_class_name", CLASSES[role].__name__)
    if found != CLASSES[role].__name__:
        raise InputError("base.folder", folder, f"is {found}, Anima has {CLASSES[role].__name__} here")
    with open_tensors(folder, "base.folder") as tensors:
        tensors = plain_qwen(tensors) if role == "text_encoder" else tensors
        return build(role, config, tensors, str, dtype, device)


def _refuse(role: str, tensors: Tensors, wanted: Mapping[str, tuple], shapes: Mapping[str, tuple]) -> None:
    lacking = [name for name in wanted if name not in shapes]
    if lacking:
        raise InputError(tensors.field, tensors.path, f"{role}: {len(lacking)} tensors are missing, e.g. {lacking[0]}")
    for name, shape in wanted.items():
        if shapes[name] != shape:
            raise InputError(tensors.field, tensors.path, f"{role}: {name} is {shapes[name]}, not {shape}")
    extra = [name for name in shapes if name not in wanted and not _UNUSED.search(name)]
    if extra:
        logger.warning("%s: %d tensors are no part of Anima and unused, e.g. %s", tensors.path, len(extra), extra[0])
