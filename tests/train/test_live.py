"""When the state of a training is saved."""

import pytest

from onmodel.train import live


@pytest.mark.parametrize(("seconds", "step"), [(0.1, 25), (20.0, 3), (90.0, 1)])
def test_the_state_is_saved_every_25_steps_or_every_minute(
    seconds: float, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    saving, due = live.Rhythm(25), []
    for number in range(1, 30):
        now[0] += seconds
        if saving.due(False):
            due.append(number)
            with saving:
                pass
    assert due[0] == step and due[1:2] in ([], [2 * step])


def test_a_slow_disk_is_written_to_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])
    saving = live.Rhythm(25)
    with saving:
        now[0] += 10  # which is 4 % of 250 seconds
    now[0] += 249
    assert not saving.due(False) and saving.due(True)
    now[0] += 1
    assert saving.due(False)
