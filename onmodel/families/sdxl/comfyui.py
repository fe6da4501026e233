"""Find an SDXL checkpoint in the folders of ComfyUI, Forge and SwarmUI. Only headers are read."""

from pathlib import Path

from onmodel.errors import InputError
from onmodel.families.comfyui_folders import WEIGHTS, Header, header_of, roots_of, weight_files
from onmodel.families.protocol import BaseSettings
from onmodel.families.sdxl.spec import COMPONENTS, Settings

_FOLDERS = ("checkpoints", "stable-diffusion")
_TOKENIZER = "comfy/sd1_tokenizer"  # of both text encoders, which differ in padding alone


def find_parts(settings: BaseSettings) -> dict[str, Path | InputError]:
    """Field or tokenizer → its file or folder, or why there is none, for what `settings` leave
    open. Raises InputError for a folder that is not there."""
    assert isinstance(settings, Settings) and settings.comfyui is not None
    roots = roots_of(settings.comfyui)
    found: dict[str, Path | InputError] = {}
    checkpoint: Path | InputError = settings.checkpoint or _checkpoint(roots)
    if settings.checkpoint is None:
        found["checkpoint"] = checkpoint
    if settings.vae is None and settings.checkpoint is None:
        found["vae"] = checkpoint  # which holds one
    folders = [root / _TOKENIZER for root in roots if (root / _TOKENIZER).is_dir()]
    lacking = InputError(
        "base.tokenizers",
        roots[0],
        f"has no {_TOKENIZER}; name a folder with `tokenizer/` and `tokenizer_2/`, or SDXL's"
        " diffusers repository as base.hub",
    )
    for part in COMPONENTS:
        if part.kind == "tokenizer":
            found[part.name] = folders[0] if folders else lacking
    return found


def _checkpoint(roots: list[Path]) -> Path | InputError:
    files = [path for path in weight_files(roots, _FOLDERS) if path.suffix.lower() in WEIGHTS]
    fitting = [path for path in files if _is_sdxl(header_of(path))]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(map(str, fitting))
        what = "several files fit; set base.checkpoint to one of them"
        return InputError("base.checkpoint", names, what)
    remedy = f"has no SDXL checkpoint in its folders {', '.join(_FOLDERS)}; set base.checkpoint"
    return InputError("base.checkpoint", roots[0], remedy)


def _is_sdxl(header: Header) -> bool:
    return any(key.startswith("conditioner.embedders.1.model.") for key in header) and any(
        key.startswith("model.diffusion_model.label_emb.") for key in header
    )
