"""Are the intervals of `onmodel judge` right? Simulated judges whose truth is known.

python run.py bench-judge [--sessions 100] [--write docs/how-to/judge-blindly.md]

A simulated judge prefers a model by log-odds of its true strength, which differs from prompt to
prompt, and ties one pair in ten. Prompts are drawn anew for every session, since an interval speaks
of prompts like these. "Equal" models have the same strength over all prompts: telling any two of
them apart is a false alarm. Prints a table, and as its last line JSON; --write puts the table into
the page.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import choix
import numpy as np

from onmodel.cli.render import on_terminal
from onmodel.events import Task
from onmodel.hashing import write_atomic
from onmodel.judge.session import draw_pairs
from onmodel.judge.strength import strengths
from onmodel.randomness import generator

CASES = ((2, 30, 12), (2, 60, 12), (2, 60, 24), (3, 60, 24), (5, 120, 24))  # models, pairs, prompts
APART = 0.85  # log-odds from one model to the next better one: 7 of 10 decided pairs
VARIES = 0.5  # standard deviation of a model's strength over prompts
TIES = 0.1
DRAWS = 500
START, END = "<!-- bench-judge -->\n", "<!-- end -->"


def truth(strength_m: np.ndarray) -> np.ndarray:
    """Bradley–Terry strengths of all prompts that could be drawn: fitted to the mean chances over
    20,000 of them."""
    values = strength_m + generator(0, "all prompts").normal(0, VARIES, (20_000, len(strength_m)))
    chances = 1 / (1 + np.exp(values[:, None, :] - values[:, :, None]))
    return np.asarray(choix.ilsr_pairwise_dense(chances.mean(0) * (1 - np.eye(len(strength_m)))))


def session(strength_m: np.ndarray, pairs: int, prompts: int, number: int) -> np.ndarray:
    """Wins [P, M, M] of one simulated session, ties half to both."""
    names = [str(m) for m in range(len(strength_m))]
    values = strength_m + generator(number, "these prompts").normal(
        0, VARIES, (prompts, len(strength_m))
    )
    rng = generator(number, "judge")
    wins = np.zeros((prompts, len(names), len(names)))
    noises = -(-pairs // prompts)
    for pair in draw_pairs(names, [str(p) for p in range(prompts)], noises, pairs, number):
        if pair.repeats is None:
            a, b, p = int(pair.left), int(pair.right), int(pair.prompt)
            tie = rng.random() < TIES
            won = (
                0.5 if tie else float(rng.random() < 1 / (1 + np.exp(values[p, b] - values[p, a])))
            )
            wins[p, a, b] += won
            wins[p, b, a] += 1 - won
    return wins


def measure(models: int, pairs: int, prompts: int, sessions: int, task: Task) -> dict[str, float]:
    """Percentages: intervals that cover, equal models told apart, the best found first, told from
    the second best."""
    ladder, equal = APART * np.arange(models)[::-1], np.zeros(models)
    true = truth(ladder)
    counts = {"covers": 0.0, "false alarms": 0.0, "best first": 0.0, "told from the second": 0.0}
    for number in range(sessions):
        found = strengths(session(ladder, pairs, prompts, number), number, DRAWS)
        intervals = [found.strength(m) for m in range(models)]
        counts["covers"] += np.mean(
            [i.low <= t <= i.high for i, t in zip(intervals, true, strict=True)]
        )
        counts["best first"] += float(found.values.argmax() == 0)
        counts["told from the second"] += found.told_apart(0, 1)
        none = strengths(session(equal, pairs, prompts, sessions + number), number, DRAWS)
        counts["false alarms"] += any(
            none.told_apart(a, b) for a in range(models) for b in range(models) if a != b
        )
        task.advance()
    return {name: 100 * count / sessions for name, count in counts.items()}


def table(rows: Mapping[tuple[int, int, int], Mapping[str, float]], sessions: int) -> str:
    """Markdown."""
    columns = list(next(iter(rows.values())))
    lines = [
        f"| per cent of {sessions} sessions | {' | '.join(columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for (models, pairs, prompts), row in rows.items():
        cells = " | ".join(f"{row[name]:.0f}" for name in columns)
        lines.append(f"| {models} models, {pairs} pairs, {prompts} prompts | {cells} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    rows = {}
    with on_terminal() as events:
        for case in CASES:
            with events.task(
                "{} models, {} pairs, {} prompts".format(*case), given.sessions
            ) as task:
                rows[case] = measure(*case, given.sessions, task)
    page = table(rows, given.sessions)
    print(page)
    if given.write:
        head, _, rest = given.write.read_text(encoding="utf-8").partition(START)
        write_atomic(given.write, (head + START + page + END + rest.partition(END)[2]).encode())
    print(json.dumps({" × ".join(map(str, case)): row for case, row in rows.items()}))


if __name__ == "__main__":
    main()
