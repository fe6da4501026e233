"""What each picture answered, as the tagger says it."""

import dataclasses

import numpy as np
import pytest

from onmodel.evaluate.answers import answers
from tests.support.drawn_family import Faults, evidence


def test_every_seed_answers_what_its_prompt_asked() -> None:
    seen = evidence(Faults())
    found = answers(seen)
    assert list(found) == [prompt.id for prompt in seen.prompts]
    prompt = next(prompt for prompt in seen.prompts if prompt.asked.get("expression") == "angry")
    told = found[prompt.id]
    assert set(told) == set(prompt.asked) and "smile" in told["expression"]
    at = list(seen.prompts).index(prompt)
    column = seen.columns[seen.vocabulary["expression"]["angry"]]
    assert told["expression"]["angry"] == pytest.approx(seen.arm("L").tags[at, :, column], abs=5e-4)
    assert np.mean(told["expression"]["angry"]) > 0.8


def test_a_frozen_expression_answers_the_same_to_everything() -> None:
    seen = evidence(Faults(expression="smile"))
    asked = [prompt.id for prompt in seen.prompts if prompt.asked.get("expression") == "angry"]
    assert all(np.mean(answers(seen)[id]["expression"]["smile"]) > 0.8 for id in asked)


def test_without_a_tagger_nothing_is_answered() -> None:
    seen = evidence(Faults())
    blind = {
        letter: dataclasses.replace(arm, tags=np.zeros((*arm.tags.shape[:2], 0)))
        for letter, arm in seen.arms.items()
    }
    assert answers(dataclasses.replace(seen, arms=blind)) == {}
