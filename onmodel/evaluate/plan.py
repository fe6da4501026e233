"""Making an evaluation's plan, and the one line that is printed with every number.

Two numbers may be compared only when their signatures are equal.
"""

import re
from collections.abc import Mapping, Sequence

from onmodel.evaluate.evaluation import EvaluationPlan, PlannedPrompt
from onmodel.evaluate.observers.files import FILES
from onmodel.hashing import hash_json
from onmodel.ledger import versions
from onmodel.sample.sampling import Sampling

WITHIN = {"confirm": "thorough"}  # suite → the suite that holds all of its prompts
_SUITE = re.compile(r"\bsuite:([\w.]+)-")
ALWAYS = ("tagger", "identity")  # named even where they are missing: most axes need them


def make_plan(
    base_sha256: str,
    suite: str,
    prompts: Sequence[PlannedPrompt],
    seeds: int,
    sampling: Sampling,
    observers: Mapping[str, str],
    references: str,
    training: str = "",
) -> EvaluationPlan:
    """The plan of `seeds` pictures per prompt and arm. `observers`: name → SHA-256."""
    return EvaluationPlan(
        base_sha256=base_sha256,
        suite=suite,
        prompts=tuple(prompts),
        seeds=tuple(range(seeds)),
        observers=observers,
        references=references,
        training=training,
        suite_sha256=hash_json([prompt.as_dict() for prompt in prompts]),
        steps=sampling.steps,
        guidance=sampling.guidance,
        shift=sampling.shift,
        weight=sampling.weight,
        width=sampling.width,
        height=sampling.height,
        sampler=sampling.sampler_version,
        size=(sampling.width, sampling.height),
    )


def signature_of(plan: EvaluationPlan) -> str:
    """One line, e.g.
    `onm|base:1f…|suite:choose-ab12|ref:…|train:…|tagger:…|identity:…|P:12|S:2|cfg:3|…|v:ab12`.
    """
    observers = [
        f"{name}:{plan.observers.get(name, 'none')[:8]}"
        for name in FILES
        if name in (*ALWAYS, *plan.observers)
    ]
    return "|".join(
        [
            "onm",
            f"base:{plan.base_sha256[:8]}",
            f"suite:{plan.suite}-{plan.suite_sha256[:8]}",
            f"ref:{plan.references[:8] or 'none'}",
            f"train:{plan.training[:8] or 'none'}",
            *observers,
            f"P:{len(plan.prompts)}",
            f"S:{len(plan.seeds)}",
            f"cfg:{plan.guidance:g}",
            f"steps:{plan.steps}",
            f"shift:{plan.shift:g}",
            f"w:{plan.weight:g}",
            f"{plan.width}x{plan.height}",
            plan.sampler,
            f"v:{metric_versions()[:4]}",
        ]
    )


def share_prompts(signature: str, other: str) -> bool:
    """Whether two plans have prompts in common, by the suites that their signatures name: what is
    chosen by the numbers of one is flattered by those of the other."""
    names = [found[1] for line in (signature, other) if (found := _SUITE.search(line))]
    return signature == other or len({WITHIN.get(name, name) for name in names}) < len(names)


def metric_versions() -> str:
    """SHA-256 of every axis' name and version."""
    return hash_json(versions.AXES)
