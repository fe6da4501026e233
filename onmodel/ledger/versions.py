"""The versions of all stages and axes, in one table. Raise a number when a change makes that stage
or axis give other bytes or numbers from the same inputs: only stages whose key contains it run
again. This file imports no stage and no axis; tests compare its names with theirs."""

VERBS = {
    "curate": 12,
    "describe": 1,
    "import": 11,
    "train": 11,
    "sample": 12,
    "evaluate": 15,
    "select": 14,
    "tune": 14,
    "merge": 11,
    "search": 13,
    "release": 15,
}
AXES = {
    "reproduction": 3,
    "responsiveness": 3,
    "expression": 2,
    "default_expression": 2,
    "composition": 2,
    "default_framing": 3,
    "style": 3,
    "colour_cast": 1,
    "colour_area": 1,
    "design": 8,
    "body": 2,
    "head_size": 2,
    "outfit_keep": 2,
    "outfit_change": 2,
    "outfit_leak": 1,
    "memorisation": 1,
    "drift": 1,
    "entanglement": 3,
    "override": 3,
    "grain": 2,
    "corruption": 1,
    "aesthetic": 1,
}
