"""The config that PEFT keeps beside its weights, or diffusers in a file's header: what sets ΔW in
it.

PEFT 0.21 scales LoRA by lora_alpha/r (lora_alpha/√r where rank-stabilised), LoHa and LoKr by
alpha/r, also where LoKr's matrices are whole. A pattern sets r or alpha of some layers: a regular
expression that must match the end of a layer's path (`peft.utils.other.get_pattern_key`).
"""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from onmodel.errors import InputError
from onmodel.reading import parse_json_in, read_json_of_others
from onmodel.text import shown

LARGEST = float(np.finfo(np.float32).max)
_KINDS = (None, "LORA", "LOHA", "LOKR")
_LONGEST_PATTERN = 300  # characters
_COMPONENTS = ("transformer.", "text_conditioner.", "text_encoder.")
_PREFIXES = ("base_model.model.", *_COMPONENTS, "diffusion_model.")


class PeftConfig(BaseModel):
    """The fields of a PEFT config that set ΔW; others are not read."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    peft_type: str | None = None
    r: int | None = Field(None, ge=1)
    lora_alpha: float | None = Field(None, ge=0, le=LARGEST)
    alpha: float | None = Field(None, ge=0, le=LARGEST)
    use_rslora: bool | None = None
    use_dora: bool | None = None
    alpha_pattern: dict[str, float] | None = None
    rank_pattern: dict[str, int] | None = None
    target_modules: str | list[str] | None = None

    @property
    def whole_alpha(self) -> float | None:
        """The alpha of layers that no pattern names; None when it is not given."""
        return self.alpha if self.peft_type in ("LOHA", "LOKR") else self.lora_alpha

    def rank_of(self, stem: str) -> int | None:
        """The rank of the layer whose keys begin with `stem`; None when it is not given."""
        found = _by_pattern(self.rank_pattern or {}, stem)
        return self.r if found is None else int(found)

    def alpha_of(self, stem: str, rank: int) -> float | None:
        """The alpha with which alpha/`rank` is what the layer's product is multiplied by; `rank` is
        that of its plain factors. None when it is not given."""
        alpha = _by_pattern(self.alpha_pattern or {}, stem)
        alpha = self.whole_alpha if alpha is None else alpha
        if alpha is None:
            return None
        if self.peft_type in ("LOHA", "LOKR"):
            return float(alpha / (self.rank_of(stem) or rank) * rank)
        return float(alpha * rank**0.5 if self.use_rslora else alpha)


def folder_config(folder: Path) -> PeftConfig:
    """The config of a PEFT folder. Raises InputError when it is missing or does not give the
    scale."""
    path = folder / "adapter_config.json"
    if not path.exists():
        raise InputError(
            "lora", path, "a PEFT folder needs its config, which holds the scale; put it there"
        )
    config = parse_config(folder, read_json_of_others(path, "lora"))
    name = "alpha" if config.peft_type in ("LOHA", "LOKR") else "lora_alpha"
    if config.whole_alpha is None:
        what = f"its PEFT config has no {name}, which sets the scale; write it there"
        raise InputError("lora", folder, what)
    if name == "alpha" and config.r is None:
        raise InputError(
            "lora", folder, "its PEFT config has no r, which sets the scale; write it there"
        )
    return config


def header_config(
    path: Path, metadata: Mapping[str, str], component: str = "transformer"
) -> dict[str, object]:
    """The PEFT config that diffusers keeps in a header for a component, keys `transformer.…`; empty
    when there is none. Raises InputError when it is not a table."""
    config = parse_json_in(metadata.get("lora_adapter_metadata", "{}"), path, "lora")
    if not isinstance(config, dict):
        what = f"its lora_adapter_metadata is {shown(config, 40)}, not a table; save it again"
        raise InputError("lora", path, what)
    return {
        key.removeprefix(f"{component}."): value
        for key, value in config.items()
        if key.startswith(f"{component}.") or not key.startswith(_COMPONENTS)
    }


def parse_config(path: Path, config: Any) -> PeftConfig:
    """Raises InputError for a field of the wrong type, a kind that is not read, and a pattern that
    is no regular expression or could take long to match."""
    try:
        found = PeftConfig.model_validate(config)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        what = (
            f"its PEFT config is damaged: {where} is {shown(first['input'], 40)} ({first['msg']});"
            " correct it"
        )
        raise InputError("lora", path, what) from error
    if found.peft_type not in _KINDS:
        what = (
            f"is a PEFT {shown(found.peft_type, 20)} folder, whose scale is not read; export it as"
            " a LoRA"
        )
        raise InputError("lora", path, what)
    values = (*(found.rank_pattern or {}).values(), *(found.alpha_pattern or {}).values())
    if not all(0 < value <= LARGEST for value in values):
        raise InputError(
            "lora",
            path,
            "its PEFT config has a pattern with a value that is not above 0; correct it",
        )
    for pattern in (*(found.rank_pattern or {}), *(found.alpha_pattern or {})):
        if not _is_safe(pattern):
            what = f"its PEFT config has the pattern {shown(pattern, 40)}, which is not read"
            raise InputError("lora", path, f"{what}; write the layers' names instead")
    return found


def _is_safe(pattern: str) -> bool:
    """Whether it is a regular expression without a repeated group, which can take for ever."""
    if len(pattern) > _LONGEST_PATTERN or re.search(r"\)[*+?{]|\(\?|(?:[*+}].*){4}", pattern):
        return False
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


def _by_pattern(patterns: Mapping[str, float], stem: str) -> float | None:
    """The value of the first pattern that matches the end of a layer's path."""
    for prefix in _PREFIXES:
        stem = stem.removeprefix(prefix)
    for pattern, value in patterns.items():
        pattern = pattern.removeprefix("base_model.model.")
        for component in _COMPONENTS:
            pattern = pattern.removeprefix(component)
        if re.match(rf"(.*\.)?({pattern})$", stem):
            return value
    return None


def alpha_of(metadata: Mapping[str, str], alphas: Iterator[float]) -> float | None:
    """The header's `ss_network_alpha` (the common layout folds alpha away), else the layers', None
    when they differ."""
    try:
        said = float(metadata["ss_network_alpha"])
    except (KeyError, ValueError):
        said = math.nan
    if 0 <= said <= LARGEST:
        return said
    found = set(alphas)
    return found.pop() if len(found) == 1 else None
