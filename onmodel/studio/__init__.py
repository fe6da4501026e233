"""The studio: the whole life of a character in one browser tab, on this machine.

Rooms are pages over the functions that the commands call; they decide nothing. One file per room
(home.py, data.py, …) lists its routes. What all rooms share: workspace.py (which projects there
are), gate.py (who is let in), jobs.py (runs in processes of their own), render.py (templates).
"""
