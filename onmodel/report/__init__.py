"""The report of a run: one HTML page that needs no network, summary.json, and the table on the
terminal."""
