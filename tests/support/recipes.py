"""Recipes that several tests run."""

RECIPE = """
[recipe]
name = "two"
character = "toon:backgwa"
seed = 7
date = "2026-11-22"
threads = 1

[stages.data]
do = "curate"
subsets.base = [{ toon = "backgwa_base", count = 5 }]

[stages.look]
do = "train"
dataset = "data"
data = [{ subset = "base" }]
epochs = 4
keep_every = 4
batch = 2
rank = 4
alpha = 4
resolution = 96
learning_rate = 2e-3
validation = false
precision = "fp32"
"""
