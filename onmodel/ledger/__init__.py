"""The record of each run: inputs, settings and result in SQLite, content-addressed objects,
lineage."""
