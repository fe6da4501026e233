"""What was done, with what, and what came out: SQLite record, content-addressed objects,
lineage."""
