"""onmodel: the whole life of a character LoRA — curate, train, sample, evaluate, select, merge,
refine, release.

The public functions are listed in `__all__` and documented in docs/reference/api.md. They are
imported when first used, so that `import onmodel` loads nothing heavy.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onmodel.api import (
        convert_lora,
        evaluate_files,
        read_evaluation,
        read_lora,
        run_recipe,
    )
    from onmodel.character import load_character
    from onmodel.errors import InputError
    from onmodel.recipe import load_recipe
    from onmodel.starter import EvaluateSettings

__version__ = "0.2.0"
__all__ = [
    "EvaluateSettings",
    "InputError",
    "convert_lora",
    "evaluate_files",
    "load_character",
    "load_recipe",
    "read_evaluation",
    "read_lora",
    "run_recipe",
]
_MODULES = {
    "EvaluateSettings": "onmodel.starter",
    "InputError": "onmodel.errors",
    "load_character": "onmodel.character",
    "load_recipe": "onmodel.recipe",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'onmodel' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_MODULES.get(name, "onmodel.api")), name)
