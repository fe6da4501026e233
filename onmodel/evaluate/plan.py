"""The evaluation plan: everything that is fixed before looking, and the one line that is printed
with every number.

Two numbers may be compared only when their signatures are equal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from onmodel.evaluate.observers import FILES
from onmodel.hashing import hash_json
from onmodel.ledger import versions

ALWAYS = ("tagger", "identity")  # told even where they are missing: most axes need them


@dataclass(frozen=True)
class Plan:
    """What is asked, under which noise, generated how, and who looks.

    `prompts`: JSON rows with id, kind, text by arm, negative, asked and noise seeds; `sampling`:
    steps, guidance, shift, weight, width, height, sampler; `observers`: name → SHA-256;
    `references`, `training`: those of the pictures that judge and that were trained on.
    """

    base_sha256: str
    suite: str
    prompts: Sequence[Mapping[str, Any]]
    seeds: int
    sampling: Mapping[str, Any]
    observers: Mapping[str, str]
    references: str
    training: str = ""

    @property
    def suite_sha256(self) -> str:
        return hash_json([dict(prompt) for prompt in self.prompts])

    def signature(self) -> str:
        """One line, e.g.
        `onm|base:1f…|suite:choose-ab12|ref:…|train:…|tagger:…|identity:…|P:12|S:2|cfg:3|…|v:ab12`.
        """
        sampling = self.sampling
        observers = [
            f"{name}:{self.observers.get(name, 'none')[:8]}"
            for name in FILES
            if name in (*ALWAYS, *self.observers)
        ]
        return "|".join(
            [
                "onm",
                f"base:{self.base_sha256[:8]}",
                f"suite:{self.suite}-{self.suite_sha256[:8]}",
                f"ref:{self.references[:8] or 'none'}",
                f"train:{self.training[:8] or 'none'}",
                *observers,
                f"P:{len(self.prompts)}",
                f"S:{self.seeds}",
                f"cfg:{sampling['guidance']:g}",
                f"steps:{sampling['steps']}",
                f"shift:{sampling['shift']:g}",
                f"w:{sampling['weight']:g}",
                f"{sampling['width']}x{sampling['height']}",
                sampling["sampler"],
                f"v:{metric_versions()[:4]}",
            ]
        )

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON values, with `seeds` as indices and `size` as [width, height]."""
        plan = asdict(self) | {"suite_sha256": self.suite_sha256, "seeds": list(range(self.seeds))}
        sampling = dict(plan.pop("sampling"))
        return plan | sampling | {"size": [sampling["width"], sampling["height"]]}


def metric_versions() -> str:
    """SHA-256 of every axis' name and version."""
    return hash_json(versions.AXES)
