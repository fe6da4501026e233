"""The versions of all stages and axes, in one table. Raise a number when a change makes that stage
or axis give other bytes or numbers from the same inputs: only stages whose key contains it run
again. This file imports no stage and no axis; tests compare its names with theirs."""

VERBS = {
    "curate": 11,
    "import": 11,
    "train": 11,
    "sample": 11,
    "evaluate": 11,
    "select": 11,
    "tune": 11,
    "merge": 11,
    "search": 11,
    "release": 11,
}
AXES = {
    "reproduction": 2,
    "responsiveness": 1,
    "expression": 1,
    "default_expression": 1,
    "composition": 2,
    "default_framing": 1,
    "style": 2,
    "colour_cast": 1,
    "colour_area": 1,
    "design": 3,
    "body": 1,
    "head_size": 1,
    "outfit_keep": 2,
    "outfit_change": 1,
    "outfit_leak": 1,
    "memorisation": 1,
    "drift": 1,
    "entanglement": 1,
    "override": 1,
    "grain": 2,
    "corruption": 1,
    "aesthetic": 1,
}
