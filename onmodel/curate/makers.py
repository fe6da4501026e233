"""Generators of pictures for a data set: the interface, and a model on this machine. A model behind
an address is in painter.py."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from onmodel.errors import InputError
from onmodel.events import Events
from onmodel.ledger.lineage import Lineage, add
from onmodel.lora import header
from onmodel.records import Model
from onmodel.sample.pictures import PictureRequest, render
from onmodel.sample.sampling import Sampling
from onmodel.sample.suites import Prompt, noise_seed
from onmodel.weights import read_metadata

if TYPE_CHECKING:
    from onmodel.families.protocol import Family


@dataclass(frozen=True)
class GeneratedPicture:
    """A candidate from a generator: its prompt, its file, and how it was made.

    `made` holds at least "prompt". `path` is None where no picture was made; `why` is the reason.
    """

    prompt: Prompt
    path: Path | None
    made: Mapping[str, object]
    why: str = ""


class Maker(Protocol):
    """`sha256` names the model in origins, `lineage` is its history."""

    @property
    def name(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    @property
    def lineage(self) -> Lineage: ...

    def words(self, prompt: Prompt) -> str:
        """The prompt's text for this generator."""

    def make(
        self, rounds: Sequence[tuple[Prompt, int]], folder: Path, events: Events
    ) -> list[GeneratedPicture]:
        """A candidate for each prompt and turn, in order. `folder` caches pictures.

        Raises InputError for a prompt that is refused.
        """


@dataclass(frozen=True)
class Sampler:
    """A base, with a LoRA or without. `family` loads the base; each `seed` gives other pictures."""

    family: "Callable[[], Family]"
    base_name: str
    base_sha256: str
    lora: Model | None
    sampling: Sampling
    seed: int = 0

    @property
    def sha256(self) -> str:
        return self.lora.sha256 if self.lora else self.base_sha256

    @property
    def name(self) -> str:
        return self.lora.name if self.lora else self.base_name

    @property
    def lineage(self) -> Lineage:
        """The lineage in the LoRA's header, or that of the base alone."""
        if self.lora is None:
            return add([], "base", name=self.base_name, sha256=self.base_sha256)
        return header.imported(read_metadata(self.lora.path), self.lora.sha256, self.lora.name)

    def words(self, prompt: Prompt) -> str:
        """The text with the trigger; without a LoRA the text with the sheet's tags."""
        return prompt.text["L" if self.lora else "D"]

    def make(
        self, rounds: Sequence[tuple[Prompt, int]], folder: Path, events: Events
    ) -> list[GeneratedPicture]:
        requests = []
        for prompt, turn in rounds:
            seed = noise_seed(f"synthesis/{self.seed}", f"{prompt.id} {self.words(prompt)}", turn)
            requests.append(PictureRequest(self.words(prompt), prompt.negative, seed, self.lora))
        with events.task("make candidates", len(requests)) as task:
            paths = render(self.family, self.base_sha256, requests, self.sampling, folder, task)
        how = {
            "model": self.name,
            "base_sha256": self.base_sha256,
            "steps": self.sampling.steps,
            "guidance": self.sampling.guidance,
            "shift": self.sampling.shift,
            "weight": self.sampling.weight if self.lora else 0.0,
        }
        return [
            GeneratedPicture(
                prompt,
                path,
                how | {"prompt": row.prompt, "negative": row.negative, "seed": row.seed},
            )
            for (prompt, _), row, path in zip(rounds, requests, paths, strict=True)
        ]


def lora_at(path: Path) -> Model:
    """A LoRA file, or the one in a release folder. Raises InputError when there is none, or more
    than one."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if len(files) != 1 or not files[0].is_file():
        raise InputError(
            "lora",
            path,
            f"holds {len(files)} .safetensors; name one" if path.is_dir() else "no such file",
        )
    return Model.of(files[0].stem, files[0])
