"""The engine `ray`: cells of a recipe on the workers of a Ray cluster. No shared folder is needed.

store.py     files by their hash on a worker's machine, up to a size
jobs.py      what a worker is sent, what it does, and what it gives back
reports.py   events and training steps on their way from a worker to the head
worker.py    the process on a worker's machine
fleet.py     the workers as Ray actors: they join, are sent jobs, and may die
dispatch.py  which job goes to which worker; what arrives is checked and recorded
engine.py    `run`, and the connection to a cluster

The head is the machine of the project. It alone writes the project and the ledger. Only fleet.py,
worker.py and engine.py import ray.
"""
