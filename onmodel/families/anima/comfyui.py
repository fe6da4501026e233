"""Find the parts of an Anima in the folders of ComfyUI, Forge and SwarmUI, by the keys of the files
and not by their names. Only headers are read."""

from collections.abc import Callable, Collection
from pathlib import Path

from onmodel.errors import InputError
from onmodel.families.comfyui_folders import (
    GGUF,
    WEIGHTS,
    Header,
    header_of,
    roots_of,
    weight_files,
)
from onmodel.families.protocol import BaseSettings

# Folder names in lower case, below models/ (SwarmUI: Models/).
_FOLDERS = {
    "dit": ("diffusion_models", "unet", "checkpoints", "stable-diffusion"),
    "text_encoder": ("text_encoders", "text_encoder", "clip"),
    "vae": ("vae",),
}
# Where several text encoders or VAEs fit, one of the published name is taken. Which of several
# transformers is meant is the user's choice.
_PUBLISHED = {
    "dit": "anima-base-v1.0.safetensors",
    "text_encoder": "qwen_3_06b_base.safetensors",
    "vae": "qwen_image_vae.safetensors",
}
_TITLES = {"dit": "Anima transformer", "text_encoder": "Qwen3 0.6B", "vae": "Qwen-Image VAE"}
_TOKENIZERS = {
    "tokenizer": "comfy/text_encoders/qwen25_tokenizer",
    "t5_tokenizer": "comfy/text_encoders/t5_tokenizer",
}
_CONDITIONER = "llm_adapter.blocks.0.cross_attn.k_proj.weight"
_SOURCE_WIDTH = 1024  # of Qwen3 0.6B


def find_parts(settings: BaseSettings) -> dict[str, Path | InputError]:
    """Field or tokenizer → its file or folder, or why there is none, for what `settings` leave
    open. Raises InputError for a folder that is not there."""
    assert settings.comfyui is not None
    roots = roots_of(settings.comfyui)
    given = roots[0]
    found: dict[str, Path | InputError] = {}
    width = _SOURCE_WIDTH
    for field in _FOLDERS:
        named: Path | None = getattr(settings, field)
        if named is None:
            found[field] = _part(field, given, weight_files(roots, _FOLDERS[field]), width)
        chosen = named or found[field]
        if field == "dit" and isinstance(chosen, Path):
            width = _source_width(chosen)
    for name, inner in _TOKENIZERS.items():
        folders = [root / inner for root in roots if (root / inner).is_dir()]
        lacking = InputError(
            "base.tokenizers",
            given,
            f"has no {inner}; name a folder with `tokenizer/` and `t5_tokenizer/`, or the base's"
            " diffusers repository as base.hub",
        )
        found[name] = folders[0] if folders else lacking
    return found


def _part(field: str, root: Path, all_files: Collection[Path], width: int) -> Path | InputError:
    """The file of a part, or that there is none, or several."""
    fits = _FITS[field]
    files = [path for path in all_files if path.suffix.lower() in WEIGHTS]
    quantised = [path for path in all_files if path.suffix.lower() == GGUF]
    fitting = [path for path in files if fits(header_of(path), width)]
    if len(fitting) > 1:
        named = [path for path in fitting if path.name == _PUBLISHED[field]]
        fitting = fitting if field == "dit" else named or fitting
    where = f"base.{field}"
    if not fitting:
        folders = ", ".join(_FOLDERS[field])
        remedy = f"has no {_TITLES[field]} in its folders {folders}; set {where}"
        if quantised:
            remedy = (
                f"has only {quantised[0].name} there, and GGUF is not read; put"
                f" {_PUBLISHED[field]} into {_FOLDERS[field][0]}"
            )
        return InputError(where, root, remedy)
    if len(fitting) > 1:
        names = ", ".join(str(path) for path in fitting)
        return InputError(where, names, f"several files fit; set {where} to one of them")
    return fitting[0]


def _source_width(dit: Path) -> int:
    """The width of the text encoder that a transformer's text conditioner reads."""
    for name, stored in header_of(dit).items():
        if name.endswith(_CONDITIONER):
            return stored.shape[1]
    return _SOURCE_WIDTH


def _is_dit(header: Header, width: int) -> bool:
    has_conditioner = any(name.endswith(_CONDITIONER) for name in header)
    return has_conditioner and any(name.endswith("x_embedder.proj.1.weight") for name in header)


def _is_text_encoder(header: Header, width: int) -> bool:
    widths = [
        stored.shape[1] for name, stored in header.items() if name.endswith("embed_tokens.weight")
    ]
    qwen3 = any(name.endswith("layers.0.self_attn.q_norm.weight") for name in header)
    return qwen3 and widths == [width]


def _is_vae(header: Header, width: int) -> bool:
    return any(name.endswith("decoder.middle.0.residual.0.gamma") for name in header)


_FITS: dict[str, Callable[[Header, int], bool]] = {
    "dit": _is_dit,
    "text_encoder": _is_text_encoder,
    "vae": _is_vae,
}
