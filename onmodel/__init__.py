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
    from onmodel.version import __version__ as __version__

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
    "convert_lora": "onmodel.api",
    "evaluate_files": "onmodel.api",
    "load_character": "onmodel.character",
    "load_recipe": "onmodel.recipe",
    "read_evaluation": "onmodel.api",
    "read_lora": "onmodel.api",
    "run_recipe": "onmodel.api",
    "__version__": "onmodel.version",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'onmodel' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_MODULES[name]), name)
