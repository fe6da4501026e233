"""onmodel: the whole life of a character LoRA — curate, train, sample, evaluate, select, merge,
refine, release."""

__version__ = "0.1.0"
