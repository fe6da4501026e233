"""Do 95 % intervals cover 95 %, and do twins stay alike? Simulated evaluations whose truth is
known.

python run.py bench-statistics [--evaluations 2000] [--write docs/explanation/statistics.md]

A simulated model has one true value per prompt, and seeds that scatter around it. Prompts are drawn
anew in every evaluation, since an interval speaks of prompts like these. Twins are models whose
true values are equal on every prompt: whatever is found between them is a false alarm. Prints the
page, and as its last line JSON.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from onmodel.evaluate.statistics import (
    Interval,
    geometric_interval,
    holm,
    max_t,
    mean_interval,
    paired,
    ratio_interval,
)
from onmodel.hashing import write_atomic
from onmodel.randomness import generator

DESIGNS = ((12, 2), (24, 2), (24, 4))
AXES, CHECKPOINTS = 14, 10
PAIR_AXES, FEW = (
    19,
    (4, 5, 5, 6, 6, 7, 7),
)  # axes of a pair, and prompts of those that few tell, as in suite confirm
Rng = np.random.Generator


def share(rng: Rng, prompts: int, seeds: int, mean: float, alike: float) -> np.ndarray:
    """Share of hits per prompt; `alike` is the correlation of a prompt's seeds."""
    heads = 1 / alike - 1
    return np.asarray(
        rng.binomial(seeds, rng.beta(mean * heads, (1 - mean) * heads, prompts)) / seeds
    )


def difference(rng: Rng, prompts: int, seeds: int) -> np.ndarray:
    """Paired differences around 0.1: prompts differ, and so do seeds."""
    return np.asarray(rng.normal(0.1, 0.1, prompts) + rng.normal(0, 0.15, (prompts, seeds)).mean(1))


def shares_apart(rng: Rng, prompts: int, seeds: int) -> np.ndarray:
    """Differences of two models' hits per prompt, 0.8 and 0.6 on average, on prompts that are hard
    for both."""
    ease = rng.beta(2, 2, prompts)
    a, b = (
        rng.binomial(seeds, np.clip(mean + 0.3 * (ease - 0.5), 0, 1)) / seeds for mean in (0.8, 0.6)
    )
    return np.asarray(a - b)


def _inside(interval: Interval, truth: float) -> bool:
    return bool(interval.low <= truth + 1e-12 and truth - 1e-12 <= interval.high)


def _ratio(rng: Rng, prompts: int, seeds: int) -> bool:
    truth = np.clip(rng.normal(0.6, 0.15, prompts), 0.05, 1)
    control, values = (
        scale * truth + rng.normal(0, 0.15, (seeds, prompts)).mean(0) for scale in (1.0, 0.8)
    )
    return _inside(ratio_interval(values, control), 0.8)


CASES: Mapping[str, Callable[[Rng, int, int], bool]] = {
    "paired difference of scores": lambda rng, p, s: _inside(
        mean_interval(difference(rng, p, s)), 0.1
    ),
    "paired difference of shares, 0.8 and 0.6": lambda rng, p, s: _inside(
        mean_interval(shares_apart(rng, p, s)), 0.2
    ),
    "share, true 0.5": lambda rng, p, s: _inside(
        mean_interval(share(rng, p, s, 0.5, 0.2), (0, 1)), 0.5
    ),
    "share, true 0.8": lambda rng, p, s: _inside(
        mean_interval(share(rng, p, s, 0.8, 0.2), (0, 1)), 0.8
    ),
    "share, true 0.95": lambda rng, p, s: _inside(
        mean_interval(share(rng, p, s, 0.95, 0.2), (0, 1)), 0.95
    ),
    "share, true 0.99": lambda rng, p, s: _inside(
        mean_interval(share(rng, p, s, 0.99, 0.2), (0, 1)), 0.99
    ),
    "share, true 0.8, plain t": lambda rng, p, s: _inside(
        mean_interval(share(rng, p, s, 0.8, 0.2)), 0.8
    ),
    "share, true 0.95, plain t": lambda rng, p, s: _inside(
        mean_interval(share(rng, p, s, 0.95, 0.2)), 0.95
    ),
    "ratio to the base, 0.8": _ratio,
    "geometric mean of ratios, 0.9": lambda rng, p, s: _inside(
        geometric_interval(0.9 * np.exp(difference(rng, p, s) - 0.1)), 0.9
    ),
}


def coverage(case: str, prompts: int, seeds: int, evaluations: int) -> float:
    """Share of simulated evaluations whose interval holds the truth."""
    rng = generator(1, "coverage", case, prompts, seeds)
    return float(np.mean([CASES[case](rng, prompts, seeds) for _ in range(evaluations)]))


def false_alarms(prompts: int, seeds: int, evaluations: int) -> tuple[float, float]:
    """Share of evaluations of twins (14 axes × 10 checkpoints against one) with any alarm:
    adjusted, and not."""
    rng = generator(1, "twins", prompts, seeds)
    adjusted, alone = [], []
    for _ in range(evaluations):
        # half of a checkpoint's noise is common to its axes; a third of the axes are shares of hits
        common = rng.normal(0, 0.1, (CHECKPOINTS + 1, 1, prompts, seeds))
        scores = (common + rng.normal(0, 0.1, (CHECKPOINTS + 1, AXES, prompts, seeds))).mean(-1)
        hits = rng.random((*scores.shape, seeds)) < rng.beta(2, 1, (prompts, 1))
        scores = np.where(np.arange(AXES)[:, None] % 3 == 0, hits.mean(-1), scores)
        differences = (scores[1:] - scores[0]).reshape(-1, prompts)
        adjusted.append(min(max_t(differences)) <= 0.05)
        alone.append(
            any(
                interval.low > 0 or interval.high < 0
                for interval in map(mean_interval, differences)
            )
        )
    return float(np.mean(adjusted)), float(np.mean(alone))


def verdicts(prompts: int, seeds: int, evaluations: int) -> tuple[float, float, float]:
    """A pair of models on 19 axes, some of which few prompts tell: share of twins with any alarm of
    the verdict's test (Holm for discrete tests), and share in which it finds a change on one axis
    of half the prompts; and Holm's own."""
    rng = generator(1, "verdicts", prompts, seeds)
    told = [min(prompts, n) for n in (prompts // 2, *FEW, *[prompts] * (PAIR_AXES - 1 - len(FEW)))]
    counts = np.zeros(3)
    for _ in range(evaluations):
        common = rng.normal(0, 0.07, (prompts, seeds))
        rows = [
            (common + rng.normal(0, 0.12, (prompts, seeds))).mean(1)[rng.permutation(prompts)[:n]]
            for n in told
        ]
        hits = [
            rng.binomial(seeds, 0.8, (2, n)) / seeds for n in told
        ]  # a third of the axes are shares of hits
        rows = [
            a - b if i % 3 == 1 else row
            for i, (row, (a, b)) in enumerate(zip(rows, hits, strict=True))
        ]
        twins = [paired(row, np.zeros_like(row)) for row in rows]
        changed = [paired(rows[0] + 0.1, np.zeros_like(rows[0])), *twins[1:]]
        least = [one.least for one in twins]
        counts += (
            min(holm([one.p for one in twins], least)) < 0.05,
            holm([one.p for one in changed], least)[0] < 0.05,
            holm([one.p for one in changed], [0.0] * len(changed))[0] < 0.05,
        )
    alarms, found, plainly = (counts / evaluations).tolist()
    return alarms, found, plainly


def page(evaluations: int) -> tuple[str, dict[str, dict[str, float]]]:
    """docs/explanation/statistics.md, and the same numbers."""
    names = [f"{p} × {s}" for p, s in DESIGNS]
    table = {
        case: {
            name: coverage(case, p, s, evaluations)
            for name, (p, s) in zip(names, DESIGNS, strict=True)
        }
        for case in CASES
    }
    alarms = {
        name: false_alarms(p, s, evaluations) for name, (p, s) in zip(names, DESIGNS, strict=True)
    }
    table["twins: any false alarm"] = {name: rate for name, (rate, _) in alarms.items()}
    table["twins: any false alarm, unadjusted t"] = {
        name: rate for name, (_, rate) in alarms.items()
    }
    pairs = {name: verdicts(p, s, evaluations) for name, (p, s) in zip(names, DESIGNS, strict=True)}
    said = (
        "a pair of twins: any false alarm of the verdict",
        "a change on one axis: found by the verdict",
        "a change on one axis: found by Holm as of 1979",
    )
    table |= {words: {name: row[i] for name, row in pairs.items()} for i, words in enumerate(said)}
    rows = [
        f"| {case} | {' | '.join(f'{100 * rate:.1f}' for rate in row.values())} |"
        for case, row in table.items()
    ]
    head = f"| per cent of {evaluations:,} evaluations | {' | '.join(names)} |"
    return "\n".join([PREFACE, head, "|---|" + "---|" * len(names), *rows]) + "\n", table


MEASURED = "## The verdict"  # the part of the page that other commands measure


PREFACE = f"""# Coverage of the intervals

Written by `python run.py bench-statistics --write docs/explanation/statistics.md`.

The benchmark simulates evaluations of prompts × seeds whose truth is known. Every interval should
cover the truth in 95 of 100 evaluations. Twins: {AXES} axes of {CHECKPOINTS} checkpoints that are equal are
compared with one more. A false alarm is any p of 0.05 or less. It should occur in 5 of 100
evaluations or fewer.

Shares near 0 or 1 use the score interval with an effective number of prompts. The rows "plain t"
show why.

The verdict on a pair adjusts for its axes by Holm's method for discrete tests (Tarone 1990, Westfall
& Wolfinger 1997). Axes with few prompts cannot give a small p, so they do not count against the
others. The last rows use {PAIR_AXES} axes, {len(FEW)} of them with {min(FEW)} to {max(FEW)} prompts, and a change of 0.1 on an axis that
half of the prompts measure.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description="How often intervals cover and twins raise an alarm."
    )
    parser.add_argument("--evaluations", type=int, default=2000)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    text, table = page(given.evaluations)
    if given.write:
        old = given.write.read_text() if given.write.exists() else ""
        kept = old[old.index(MEASURED) :] if MEASURED in old else ""
        write_atomic(given.write, (text + (f"\n{kept}" if kept else "")).encode())
    print(text)
    print(json.dumps(table))


if __name__ == "__main__":
    main()
