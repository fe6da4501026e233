"""describe: what reference pictures show, with their author's notes, as structured scenes
(scene.py), by a vision model behind an OpenAI-compatible address. A sample stage draws them.

Makes `scenes/PICTURE.json`. Answers are kept as they come, so that a run that was stopped asks only
for the others.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from onmodel.character import Character
from onmodel.curate.captioning import endpoint_of
from onmodel.curate.endpoint import Endpoint
from onmodel.curate.scene import write_scenes
from onmodel.curate.settings import EndpointSettings
from onmodel.dataset.manifest import read_items
from onmodel.errors import InputError
from onmodel.ledger.lineage import add
from onmodel.records import Artifact
from onmodel.stages.base import (
    Context,
    Inputs,
    Kind,
    NamedStage,
    Plan,
    Reads,
    StageSettings,
    keep_file,
)

MAKES: Kind = "scenes"
READS = Reads("describe")
FOLDER = "scenes"


class Settings(StageSettings):
    """The settings of a describe stage."""

    do: Literal["describe"]
    dataset: str = Field(description="Curate stage with the reference pictures.")
    subset: str | None = Field(default=None, description="Its subset. Unset: all pictures.")
    count: int | None = Field(
        default=None, ge=1, description="Largest number of pictures described. Unset: all."
    )
    notes: Path | None = Field(
        default=None, description="Text file with the author's notes, which are facts. Unset: none."
    )
    endpoint: str = Field(
        description=(
            "OpenAI-compatible address of a vision model, e.g. http://127.0.0.1:8080/v1; the key is"
            " in OPENAI_API_KEY."
        )
    )
    model: str = Field(min_length=1, description="What the endpoint calls its model.")
    timeout: float = Field(
        default=120.0, gt=0, description="Seconds that the endpoint has for one answer."
    )

    def named_stages(self) -> list[NamedStage]:
        return [NamedStage("dataset", self.dataset, "dataset", self.subset)]

    def check(self, base_name: str, character: Character) -> None:
        """Raises InputError for an endpoint that is none."""
        self.service()

    def keyed(self) -> dict[str, object]:
        return {name: value for name, value in super().keyed().items() if name != "timeout"}

    def told(self) -> dict[str, object]:
        return {name: value for name, value in super().told().items() if name != "timeout"}

    def service(self) -> Endpoint:
        """The model behind the address. Raises InputError for a wrong address."""
        return endpoint_of(
            EndpointSettings(endpoint=self.endpoint, model=self.model, timeout=self.timeout)
        )


def estimate(settings: Settings, before: Mapping[str, Plan]) -> Plan:
    """One question a picture."""
    counts = before[settings.dataset].counts
    shown = counts.get(settings.subset, 0) if settings.subset else sum(counts.values())
    number = min(shown, settings.count or shown)
    missing: tuple[InputError, ...] = ()
    if settings.notes is not None and not settings.notes.is_file():
        missing = (InputError("notes", settings.notes, "no such file; check the path"),)
    note = f"asks {settings.service().address} about {number} pictures"
    return Plan(counts={"scenes": number}, notes=[note], missing=missing)


def run(inputs: Inputs, settings: Settings, context: Context) -> Artifact:
    """Ask. Raises InputError for pictures or notes that cannot be read, ServiceError when no usable
    answer comes."""
    dataset = inputs.artifact(settings.dataset)
    items = read_items(dataset.path)
    wanted = [item for item in items if settings.subset in (None, item.subset)][: settings.count]
    endpoint = settings.service()
    pictures = [dataset.path / item.image for item in wanted]
    scratch = context.scratch / FOLDER
    files, _ = write_scenes(pictures, settings.notes, endpoint, scratch, context.events)
    for file in files:
        keep_file(file, context.out / FOLDER / file.name)
    service = add([], "service", name=endpoint.model, address=endpoint.address)
    parents = [context.recipe(READS), inputs.lineage(settings.dataset), service]
    facts = {"count": len(files), "settings": settings.told()}
    return context.commit("scenes", add(parents, "scenes", name=context.name, **facts))
