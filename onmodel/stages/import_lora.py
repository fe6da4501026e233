"""import: a LoRA file that others made, in any layout that is read, to a model that recipes can
measure and merge.

Makes `imported.safetensors` in the common layout, the same ΔW, and `models.json`. What its header
said stays in the history as claims of others, under a node that names the file by its hash; nothing
of it counts as measured.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from onmodel.errors import InputError
from onmodel.ledger.lineage import root
from onmodel.lora import header
from onmodel.lora.file import LoraFile
from onmodel.lora.specs import is_checkpoint
from onmodel.policy import check_text
from onmodel.records import Artifact
from onmodel.stages.base import (
    Context,
    Inputs,
    Kind,
    Plan,
    Reads,
    StageSettings,
    content_of,
    write_models,
)

MAKES: Kind = "models"
READS = Reads("import")
FILE = "imported.safetensors"
NOT_THERE = "no such file; name a LoRA file or a PEFT folder, relative to the recipe"


class Settings(StageSettings):
    """The settings of an import stage."""

    do: Literal["import"]
    file: Path = Field(description="LoRA file (kohya, ComfyUI, diffusers, onmodel) or PEFT folder.")


def estimate(settings: Settings, before: Mapping[str, Plan]) -> Plan:
    """One model; seconds of work. A file that is not there is told with the plan."""
    there = settings.file.is_file() or settings.file.is_dir()  # a pipe or a device is neither
    missing = () if there else (InputError("file", settings.file, NOT_THERE),)
    return Plan(models=1, missing=missing)


def run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    """Read, rewrite, keep the history. Raises InputError when the file is no LoRA of this base."""
    from onmodel.lora.tensors import read_lora, write_lora

    if is_checkpoint(settings.file):
        raise InputError(
            "file", settings.file, "is a whole model; `onmodel lora extract` makes a LoRA of it"
        )
    spec = context.family().spec
    lora = read_lora(settings.file, spec, dora=True)
    with LoraFile(settings.file, spec, dora=True) as file:
        for note in file.notes:
            context.events.note(f"{settings.file.name} {note}", "warning")
    lineage = header.imported(lora.metadata, content_of(settings.file) or "", context.name)
    claims = lineage[root(lineage)].get("claims", {})
    check_text(" ".join(claims.values()), f"the header of {settings.file.name}")
    facts = header.Facts(
        title=claims.get("modelspec.title", context.name),
        author=claims.get("modelspec.author", ""),
        license=claims.get("modelspec.license", ""),
        trigger=claims.get("modelspec.trigger_phrase", ""),
        architecture=spec.architecture,
        resolution=0,
        date=claims.get("modelspec.date", ""),
        merged_from=claims.get("modelspec.merged_from", ""),
        blocks=spec.blocks,
        width=spec.width,
        base_sha256=context.base_sha256,
    )
    kept = {key: value for key, value in claims.items() if key.startswith("ss_")}
    write_lora(context.out / FILE, lora, header.build(facts, lineage, **kept))
    write_models(context.out, [(context.name, None, FILE)])
    return context.commit("model", lineage)
