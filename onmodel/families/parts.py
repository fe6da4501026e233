"""The pieces that a base is put together from: read from safetensors files and filled tensor by
tensor. Each family says of which classes they are."""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from onmodel.errors import InputError
from onmodel.families.other_models import recognise
from onmodel.families.protocol import Config
from onmodel.reading import read_json_of_others
from onmodel.text import shown
from onmodel.weights import FLOATS, Stored, read_header

logger = logging.getLogger(__name__)

# Tensors of published files that the classes compute themselves, that count training steps, or that
# make text.
_UNUSED = re.compile(
    r"pos_embedder\.|_extra_state$|^accum_|^logvar\.|\.inv_freq$|^lm_head\.|\.position_ids$"
    r"|\.scale_(weight|input)$|\.(weight|input)_scale$|^scaled_fp8$|\.comfy_quant$"
)
_FP8 = ("F8_E4M3", "F8_E5M2")
# What packed weights have beside them, and the format that it shows.
_PACKED = (
    (re.compile(r"\.(absmax|quant_map)$|\.bitsandbytes__nf4$"), "nf4"),
    (re.compile(r"\.weight_scale_2$"), "nvfp4"),
)


@dataclass(frozen=True)
class Tensors:
    """The tensors under one prefix of a file, or of a folder's files: `places` maps a name without
    the prefix to its place. `words` are the first file's. `turned` names matrices that a class has
    the other way round."""

    path: Path
    field: str
    places: Mapping[str, Stored]
    words: Mapping[str, str]
    turned: frozenset[str] = frozenset()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """As the class has them."""
        return {
            name: stored.shape[::-1] if name in self.turned else stored.shape
            for name, stored in self.places.items()
        }

    def read(self, name: str) -> Tensor:
        """A tensor as numbers. 8-bit floats are multiplied by their scale, where the file has one:
        ComfyUI writes it as `scale_weight` or `weight_scale` beside the weight."""
        tensor = self.places[name].read()
        if name in self.turned:
            tensor = tensor.t().contiguous()
        if self.places[name].dtype not in _FP8:
            return tensor
        stem = name.removesuffix("weight")
        values = tensor.float()
        for scale in (f"{stem}scale_weight", f"{stem}weight_scale"):
            if scale in self.places:
                factor = self.places[scale].read().float()
                values *= factor.reshape(-1, *[1] * (values.ndim - 1))
        return values.to(torch.bfloat16)

    def under(self, prefix: str) -> "Tensors":
        """Those whose names begin with `prefix`, called without it."""
        places = {
            name.removeprefix(prefix): place
            for name, place in self.places.items()
            if name.startswith(prefix)
        }
        return Tensors(self.path, self.field, places, self.words)

    def beside(self, prefix: str) -> "Tensors":
        """Those whose names do not begin with `prefix`."""
        places = {name: place for name, place in self.places.items() if not name.startswith(prefix)}
        return Tensors(self.path, self.field, places, self.words)

    def wrong(self, what: str) -> InputError:
        """The error that this is not `what`. It names what the file is, where its keys show it."""
        kind = recognise(self.shapes)
        return InputError(
            self.field, self.path, f"is {kind or 'something unknown here'}, not {what}"
        )


@dataclass(frozen=True)
class PartSource:
    """The source of a part: what makes it of its config, tensors, and a function from a tensor's
    name in the class to its name in the file. `base` is how people call the base."""

    base: str
    role: str
    make: Callable[[Config], Any]
    config: Config
    tensors: Tensors
    rename: Callable[[str], str]


def read_tensors(path: Path, field: str) -> Tensors:
    """The tensors of a safetensors file or a folder of them. Raises InputError for tensors that are
    missing, damaged or duplicate."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    places: dict[str, Stored] = {}
    words: dict[str, str] = {}
    for file in files:
        found, said = read_header(file, field)
        if twice := next((name for name in found if name in places), None):
            raise InputError(
                field,
                file,
                f"{twice} is in {places[twice].path.name} too; keep one of the two variants",
            )
        places |= found
        words = words or said
    if not places:
        raise InputError(field, path, "holds no weights")
    for pattern, packing in _PACKED:
        if any(map(pattern.search, places)):
            raise InputError(field, path, f"is quantised ({packing}); use the bfloat16 file")
    return Tensors(path, field, places, words)


def without_weights(make: Callable[[Config], Any], config: Config) -> Any:
    """What `make` gives, without memory for its weights, which are on the meta device."""
    with init_empty_weights(include_buffers=False), _NoDraws():
        return make(config)


class _NoDraws(TorchFunctionMode):
    """Skips random initial values: accelerate moves a weight to the meta device only after it is
    drawn, which takes minutes for two billion of them."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        return func(*args, **(kwargs or {}))


def check(source: PartSource) -> Any:
    """The part without weights, when the stored tensors fit it; else raises InputError naming the
    first that does not: missing, misshapen or quantised. Tells of tensors that nothing uses. Reads
    no tensor.
    """
    role, tensors = source.role, source.tensors
    try:
        model = without_weights(source.make, source.config)
    except (
        TypeError,
        ValueError,
        ArithmeticError,
        LookupError,
        AttributeError,
        RuntimeError,
    ) as error:
        what = f"its config makes no {role} ({shown(error, 200)}); get the file again"
        raise InputError(tensors.field, tensors.path, what) from error
    wanted = {
        source.rename(name): tuple(tensor.shape) for name, tensor in model.state_dict().items()
    }
    lacking = [name for name in wanted if name not in tensors.places]
    if len(lacking) == len(wanted):
        raise tensors.wrong(f"{source.base}'s {role}")
    if lacking:
        what = (
            f"{role}: {len(lacking)} of {len(wanted)} tensors are missing, e.g. {lacking[0]}; get"
            " the file again"
        )
        raise InputError(tensors.field, tensors.path, what)
    shapes = tensors.shapes
    for name, shape in wanted.items():
        stored = tensors.places[name]
        if shapes[name] != shape:
            raise InputError(
                tensors.field, tensors.path, f"{role}: {name} is {shapes[name]}, not {shape}"
            )
        if 0 in shape:
            raise InputError(
                tensors.field, tensors.path, f"{role}: {name} holds no number; get the file again"
            )
        if stored.dtype not in (*FLOATS, *_FP8):
            raise InputError(
                tensors.field,
                tensors.path,
                f"{name} is quantised ({stored.dtype}); use the bfloat16 file",
            )
    if any(tensors.places[name].dtype in _FP8 for name in wanted):
        logger.warning(
            "%s: %s is stored in fp8 and is read as bfloat16; the bfloat16 file is more exact",
            tensors.path,
            role,
        )
    extra = [name for name in tensors.places if name not in wanted and not _UNUSED.search(name)]
    if extra:
        logger.warning(
            "%s: %d tensors are not part of %s and are not used, e.g. %s",
            tensors.path,
            len(extra),
            source.base,
            extra[0],
        )
    return model


def build(source: PartSource, dtype: torch.dtype, device: str) -> Any:
    """A part with its weights. Raises InputError as `check` does."""
    return fill(check(source), source, dtype, device)


# Not under a caller's inference mode: what it makes could not be used in training afterwards.
@torch.inference_mode(False)
def fill(
    model: Any, source: PartSource, dtype: torch.dtype, device: str, on_host: tuple[str, ...] = ()
) -> Any:
    """The part that `check` gave, with its weights, read one by one so that none is in memory
    twice. No gradients. What begins with a name of `on_host` stays in the host's memory."""
    for name in model.state_dict():
        place = "cpu" if name.startswith(on_host) else device
        tensor = source.tensors.read(source.rename(name)).to(place, dtype)
        owner, _, leaf = name.rpartition(".")
        module = model.get_submodule(owner)
        # Not by accelerate's set_module_tensor_to_device, which brings a value to the dtype that
        # the class was made in.
        setattr(module, leaf, nn.Parameter(tensor, False) if leaf in module._parameters else tensor)
    if not on_host:
        model.to(device)
    return model.eval().requires_grad_(False)


class LazyPart:
    """A part that is read when it is first used, and again after it was released. Raises InputError
    as `check` does, and for files that changed since then."""

    on_host: tuple[str, ...] = ()  # beginnings of the names that are read into the host's memory

    def __init__(self, source: PartSource, dtype: torch.dtype, device: str) -> None:
        self.outline = check(source)  # without weights
        self._source, self._dtype, self._device = source, dtype, device
        self._files = self._stamps()
        self._model: Any = None

    @property
    def model(self) -> Any:
        if self._model is None:
            source = self._unchanged()
            model = without_weights(source.make, source.config)
            self._model = fill(model, source, self._dtype, self._device, self.on_host)
        return self._model

    @property
    def is_read(self) -> bool:
        return self._model is not None

    def release(self) -> None:
        """Drop the weights."""
        self._model = None

    def stored(self, name: str) -> Tensor:
        """A tensor of the part, by its name there, as the files have it."""
        source = self._unchanged()
        return source.tensors.read(source.rename(name)).to(self._dtype)

    def _unchanged(self) -> PartSource:
        tensors = self._source.tensors
        for path, stamp in self._stamps().items():
            if stamp != self._files[path]:
                what = "was changed while it was used; start again"
                raise InputError(tensors.field, path, what)
        return self._source

    def _stamps(self) -> dict[Path, tuple[int, int]]:
        """Size and time of change of each file."""
        stamps = {}
        for path in {stored.path for stored in self._source.tensors.places.values()}:
            stat = path.stat() if path.exists() else None
            stamps[path] = (stat.st_size, stat.st_mtime_ns) if stat else (0, 0)
        return stamps


def read_config(folder: Path, field: str, name: str = "config.json") -> Config:
    """A component's config."""
    config = read_json_of_others(folder / name, field)
    if not isinstance(config, dict):
        raise InputError(
            field,
            folder / name,
            "is not a table; copy it from the base's diffusers repository",
        )
    return config
