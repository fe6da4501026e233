import subprocess
import sys

import numpy as np

from onmodel.randomness import generator, normal


def test_draws_depend_on_every_counter_and_on_nothing_else() -> None:
    first = normal((4,), 1, "noise", 0, 0)
    assert np.array_equal(first, normal((4,), 1, "noise", 0, 0))
    others = [
        normal((4,), 2, "noise", 0, 0),
        normal((4,), 1, "time", 0, 0),
        normal((4,), 1, "noise", 1, 0),
        normal((4,), 1, "noise", 0, 1),
    ]
    assert not any(np.array_equal(first, other) for other in others)


def test_counters_do_not_run_together() -> None:
    assert generator(1, "a", 11, 1).random() != generator(1, "a", 1, 11).random()


def test_another_process_with_another_hash_seed_draws_the_same() -> None:
    code = (
        "from onmodel.randomness import normal; print(normal((3,), 5, 'noise', 2).tobytes().hex())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONHASHSEED": "7"},
        check=True,
    )
    assert run.stdout.strip() == normal((3,), 5, "noise", 2).tobytes().hex()
