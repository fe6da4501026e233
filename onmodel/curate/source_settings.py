"""The settings that say where the pictures of a subset come from."""

import difflib
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from onmodel.curate.ingest import Reading
from onmodel.evaluate.observers.source import SCHEME
from onmodel.reading import path_cure
from onmodel.toon.datasets import STANDIN_SETS


class SourceSettings(Reading):
    """Where pictures of a subset come from: exactly one of `toon`, `folder`, `stage` or `dataset`.

    A picture is taken once per data set. The settings about captions and masks go with `folder`.
    """

    toon: str | None = Field(default=None, description="Name of a toon set.")
    folder: Path | None = Field(default=None, description="Folder of pictures with caption files.")
    stage: str | None = Field(
        default=None, description="Sample stage whose kept pictures are taken."
    )
    dataset: str | None = Field(
        default=None, description="Curate stage to take pictures from; needs `subset`."
    )
    subset: str | None = Field(default=None, description="Subset of `dataset`.")
    tagger: Annotated[str, Field(pattern=f"^{SCHEME}")] | Path | None = Field(
        default=None,
        description=(
            "Tagger in WD v3 format that tags pictures without a caption: a folder or"
            " hf://owner/name. Unset: the trigger alone."
        ),
    )
    count: int | None = Field(
        default=None, ge=1, description="Largest number of pictures taken. Unset: all."
    )

    @field_validator("folder", "masks")
    @classmethod
    def _written_as_meant(cls, path: Path | None) -> Path | None:
        if path is not None and (cure := path_cure(str(path))):
            raise ValueError(cure)
        return path

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (
            sum(value is not None for value in (self.toon, self.folder, self.stage, self.dataset))
            != 1
        ):
            raise ValueError(
                "a source is one of { toon = … }, { folder = … }, { stage = … }, { dataset = …,"
                " subset = … }"
            )
        said = sorted(
            name
            for name, field in Reading.model_fields.items()
            if getattr(self, name) != field.get_default()
        )
        said += ["tagger"] * (self.tagger is not None)
        if self.folder is None and said:
            raise ValueError(f"{said[0]} applies to folders only; use it with {{ folder = … }}")
        if (self.dataset is None) != (self.subset is None):
            raise ValueError(
                'dataset and subset go together: { dataset = "older", subset = "base" }'
            )
        if self.toon is not None and self.toon not in STANDIN_SETS:
            near = difflib.get_close_matches(self.toon, STANDIN_SETS, n=1)
            raise ValueError(
                f"did you mean {near[0]!r}?" if near else f"toon sets are {', '.join(STANDIN_SETS)}"
            )
        return self
