"""A base's files and LoRA files, from their headers."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from onmodel.devices import default_dtype, find_device, free_memory
from onmodel.doctor.findings import GIB, caught
from onmodel.errors import InputError
from onmodel.events import Finding
from onmodel.text import shown

if TYPE_CHECKING:
    from onmodel.families.protocol import BaseSettings, Outline, Part


def base_findings(settings: "BaseSettings") -> "tuple[list[Finding], Outline | None]":
    """A line for each part of a base, from headers alone; and its outline when all parts of the
    model fit."""
    from onmodel.families import registry
    from onmodel.families.protocol import Place

    rows: list[Finding] = []
    places = registry.locate(settings, download=False)
    for error in {
        place.value: place for place in places.values() if _not_downloaded(place)
    }.values():
        rows.append(Finding("base hub", "warn", str(error.value), error.remedy))
    good: set[str] = set()
    for name, place in places.items():
        with caught(rows, f"base {name}"):
            if _not_downloaded(place):
                continue
            if not isinstance(place, Place):
                raise place
            rows.append(_part(name, registry.examine(settings, name, place)))
            good.add(name)
    weights = {p.name for p in registry.components(settings.family) if p.kind != "tokenizer"}
    outline = registry.outline(settings) if weights <= good else None
    if outline is not None and not registry.is_shipped(settings):
        rows.append(_memory(outline, settings))
    return rows, outline


def _not_downloaded(place: object) -> TypeGuard[InputError]:
    return isinstance(place, InputError) and place.field == "base.hub"


def _part(name: str, part: "Part") -> Finding:
    if part.tokens:
        return Finding(f"base {name}", "ok", f"{part.tokens} tokens")
    places = 0 if part.parameters > 1e8 else 1
    text = f"{part.parameters / 1e6:,.{places}f} M parameters"
    text += f" in {part.layers} blocks" if part.layers else ""
    text += ", stored as " + " and ".join(part.dtypes)
    if "F16" in part.dtypes:
        return Finding(
            f"base {name}",
            "warn",
            text,
            "float16 may have cut large values; prefer the bfloat16 file",
        )
    return Finding(f"base {name}", "ok", text)


def _memory(outline: "Outline", settings: "BaseSettings") -> Finding:
    """Is there room for the weights alone?"""
    device = find_device(settings.device, "base.device")
    card = device.type != "cpu"
    wide = settings.dtype == "auto" and default_dtype(device).itemsize == 4
    width = 4 if settings.dtype == "float32" or wide else 2
    needed = width * sum(outline.parameters(name) for name in outline.components)
    room = free_memory(device)
    text = (
        f"its weights take {needed / GIB:.1f} GiB, {'the card' if card else 'this machine'} has"
        f" {room / GIB:.1f} free"
    )
    if needed < room:
        return Finding("base memory", "ok", text)
    return Finding(
        "base memory",
        "fail",
        text,
        'use dtype = "bfloat16"' if width == 4 else "close other programs",
    )


def lora_findings(path: Path, outline: "Outline | None") -> Iterator[Finding]:
    """Is this a LoRA for the base? Without one it is compared with a published base. Raises
    InputError."""
    from onmodel.families.registry import outline as outline_of
    from onmodel.lora.file import LoraFile
    from onmodel.lora.tensors import read_lora

    about = f"lora {path.name}"
    if outline is None:
        outline = outline_of({})
        title = outline.spec.title
        text = f"no base was named or fits; compared with {title} as published"
        yield Finding(about, "warn", text, "add --base")
    lora = read_lora(path, outline.spec, dora=True)
    with LoraFile(path, outline.spec, dora=True) as file:
        notes, is_dora = file.notes, file.is_dora
    ranks = sorted({layer.rank for layer in lora.layers.values()})

    def count(component: str | None) -> int:
        rows = outline.spec.backbone_layers + outline.spec.text_linears
        return sum(row.component == component and row.name in lora.layers for row in rows)

    parts = "".join(
        f"{count(part)} of the {part.replace('_', ' ')}, "
        for part in dict.fromkeys(str(row.component) for row in outline.spec.text_linears)
        if count(part)
    )
    norms = sum(row.name in lora.layers for row in outline.spec.norms)
    parts += f"{norms} norms, " if norms else ""
    span = f"{ranks[0]}" if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
    text = (
        f"{count(None)} of {len(outline.spec.backbone_layers)} layers, {parts}rank {span}, alpha"
        f" {lora.trained_alpha or 'mixed'}"
    )
    if all(layer.changes_nothing for layer in lora.layers.values()):
        yield Finding(
            about,
            "warn",
            f"{text}; it changes nothing, every product is zero",
            "use a later checkpoint",
        )
    else:
        yield Finding(about, "ok", text)
    for note in notes:
        yield Finding(about, "warn", note, "compare it with the base that its author names")
    if is_dora:
        yield Finding(
            about,
            "warn",
            "it is DoRA",
            "it can be sampled, evaluated and trained on, not merged or released",
        )
    said = lora.metadata.get("modelspec.architecture") or lora.metadata.get(
        "ss_base_model_version", ""
    )
    spec = outline.spec
    if said and not any(name in said.lower() for name in (spec.name, spec.architecture)):
        yield Finding(
            about,
            "warn",
            f"its header says {shown(said)!r}, its keys say {outline.spec.title}",
            "other tools may go by the header",
        )
    if not lora.metadata:
        yield Finding(about, "warn", "its header says nothing of how it was made", "")
