"""An Anima from its files, and what else is made of them. The parts are in parts.py, ComfyUI's
single files in single_file.py."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AnimaAutoBlocks

from onmodel.families.anima.family import Anima
from onmodel.families.anima.parts import CLASSES, Parts, folder_source, load_tokenizer
from onmodel.families.anima.single_file import export_single_files, single_source
from onmodel.families.anima.spec import make_spec
from onmodel.families.parts import LazyPart, PartSource
from onmodel.families.protocol import BaseSettings, FamilySpec, Place

__all__ = ["empty_pipeline", "export_single_files", "load", "source", "tokenizer"]


def load(
    places: Mapping[str, Place],
    settings: BaseSettings,
    dtype: torch.dtype,
    device: str,
    sha256: str,
) -> Anima:
    """The base at the places of its components, which are read when they are used. Raises
    InputError for a component that does not fit."""
    parts = {
        name: LazyPart(source(name, place), dtype, device)
        if name in CLASSES
        else tokenizer(name, place)
        for name, place in places.items()
    }
    return Anima(Parts(**parts), dtype, torch.device(device), sha256)


def source(component: str, place: Place) -> PartSource:
    """What a component of the model is read from. Raises InputError when its file is something
    else."""
    return (single_source if place.single else folder_source)(component, place.path, place.field)


def tokenizer(component: str, place: Place) -> Any:
    """The tokenizer at a place. Raises InputError when there is none."""
    return load_tokenizer(component, place.path, place.field)


def empty_pipeline(folder: Path) -> tuple[Any, dict[str, Any], FamilySpec]:
    """diffusers' pipeline with a transformer and a text conditioner that are never initialised,
    these models by component, and their facts; of the base in `folder` only their `config.json` are
    read."""
    models = {}
    for name in ("transformer", "text_conditioner"):
        config = CLASSES[name].load_config(str(folder / name))
        with torch.device("meta"):
            models[name] = CLASSES[name].from_config(config)
    spec = make_spec(models["transformer"], {"text_conditioner": models["text_conditioner"]})
    # Memory that is never touched is never taken.
    models = {name: model.to_empty(device="cpu") for name, model in models.items()}
    pipeline = AnimaAutoBlocks().init_pipeline()  # type: ignore[attr-defined]
    pipeline.update_components(**models)
    return pipeline, models, spec
