"""Settings of merging and writing LoRA files. Imports nothing heavy."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from onmodel.command_settings import CommandSettings, option
from onmodel.errors import InputError

DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


@dataclass(frozen=True, kw_only=True)
class ResultSettings(CommandSettings):
    """How a LoRA is written: its size, alpha, key layout and dtype."""

    rank: int | None = option(
        "Rank of every layer. Default without --energy and --size: the exact sum.", None
    )
    energy: float | None = option(
        "Share of the energy to keep, e.g. 0.95; the smallest file that keeps it.", None
    )
    size: str = option("Largest file size, e.g. 90MB; the best file below it.", "")
    alpha: str = option(
        "Alpha of the result, a number or from-parent. Matters for further training only.",
        "from-parent",
    )
    layout: str = option("Key layout: common (ComfyUI and diffusers) or kohya.", "common")
    dtype: str = option("float32 (before further training), bfloat16 or float16.", "float32")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layout not in ("common", "kohya"):
            raise InputError("--layout", self.layout, "use common or kohya")
        if self.dtype not in DTYPES:
            raise InputError("--dtype", self.dtype, f"use {', '.join(DTYPES)}")
        self.bytes, self.written_alpha  # noqa: B018  # raise InputError where they are wrong

    @property
    def bytes(self) -> int | None:
        """`size` in bytes. Raises InputError."""
        if not self.size:
            return None
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMG]?)(i?)B?", self.size)
        if match is None:
            raise InputError("--size", self.size, "write e.g. 90MB, 64MiB or a number of bytes")
        unit = 1024 if match[3] else 1000
        return round(float(match[1]) * unit ** " kMG".index(match[2] or " "))

    @property
    def written_alpha(self) -> Literal["from-parent"] | float:
        """`alpha` as a number, or "from-parent". Raises InputError."""
        return "from-parent" if self.alpha == "from-parent" else _number("--alpha", self.alpha)


@dataclass(frozen=True, kw_only=True)
class MergeSettings(CommandSettings):
    """How the inputs of a merge are weighted."""

    weights: str = option(
        "One weight per file, in order (0.6,0.4) or by name (a=0.6,b=-0.2). Default: the mean.", ""
    )
    method: str = option("weighted, uniform, ema, lcsc, block_weighted, slerp, ties or dare.", "")
    block: tuple[str, ...] = option(
        "Factor on the weights of some layers: 0-9=0.5, mlp=0, or of one file: name:mlp=0.", ()
    )
    decay: float | None = option(
        "Method ema: weight of a file relative to the next. Default: 0.8.", None
    )
    density: float | None = option(
        "Methods ties and dare: share of entries that are kept. Default: 0.5.", None
    )
    checkpoint_rank: int = option(
        "Rank of the difference of a full checkpoint among the files.", 64, least=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.given_weights, self.factors  # noqa: B018  # raise InputError where they are wrong

    @property
    def given_weights(self) -> list[float] | dict[str, float] | None:
        """`weights` as numbers, by place or by name. Raises InputError."""
        return parse_weights(self.weights)

    @property
    def factors(self) -> dict[str, float]:
        """`block` as pattern → factor. Raises InputError."""
        return parse_blocks(self.block)


def parse_weights(text: str) -> list[float] | dict[str, float] | None:
    """Numbers in order, or name → number; None for an empty text. Raises InputError."""
    if not text:
        return None
    parts = [part.strip().rpartition("=") for part in text.split(",")]
    if all(equals for _, equals, _ in parts):
        return {name: _number("--weights", number) for name, _, number in parts}
    return [_number("--weights", name + equals + number) for name, equals, number in parts]


def parse_blocks(texts: Iterable[str]) -> dict[str, float]:
    """Pattern → factor, from rows `where=factor`. Raises InputError."""
    found = {}
    for text in texts:
        pattern, equals, factor = text.rpartition("=")
        if not equals:
            raise InputError("--block", text, "write where=factor, e.g. 0-9=0.5 or mlp=0")
        found[pattern] = _number("--block", factor)
    return found


def _number(field: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(field, text, "is not a number; write one like 0.5")
    return number
