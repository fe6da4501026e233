"""The tables of the ledger, as the steps that make them."""

# Append-only: entry n takes a database from user_version n to n + 1. Never edit one that was
# released.
MIGRATIONS = (
    """
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL,           -- hash of all that decides the result
        recipe TEXT NOT NULL,
        stage TEXT NOT NULL,
        verb TEXT NOT NULL,
        settings TEXT NOT NULL,      -- JSON, resolved
        inputs TEXT NOT NULL,        -- JSON: stage -> artifact hash
        environment TEXT NOT NULL,   -- JSON: versions and platform, told but not part of the key
        started TEXT NOT NULL,
        finished TEXT,
        seconds REAL,
        kind TEXT,
        artifact TEXT                -- tree hash of objects/<2>/<hash>
    ) STRICT;
    CREATE INDEX runs_by_key ON runs (key);
    """,
    """
    -- base: JSON, as the recipe names it
    ALTER TABLE runs ADD COLUMN base TEXT NOT NULL DEFAULT '"toon"';
    """,
    """
    CREATE TABLE steps (
        key TEXT NOT NULL,           -- of the run; attempts that were killed share it
        step INTEGER NOT NULL,       -- from 1
        metrics TEXT NOT NULL,       -- JSON
        PRIMARY KEY (key, step)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    ALTER TABLE runs ADD COLUMN process TEXT;  -- that runs it: number, start, machine
    ALTER TABLE runs ADD COLUMN stopped TEXT;  -- paused or failed
    ALTER TABLE runs ADD COLUMN line TEXT;     -- why, in one line
    CREATE TABLE queue (
        id INTEGER PRIMARY KEY,
        recipe TEXT NOT NULL,
        stage TEXT NOT NULL,
        verb TEXT NOT NULL,
        process TEXT NOT NULL,
        waits INTEGER NOT NULL       -- 0 when its turn came, or its command ended
    ) STRICT;
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL,
        kind TEXT NOT NULL,          -- Note, Row or Finding
        message TEXT NOT NULL        -- JSON
    ) STRICT;
    CREATE INDEX messages_by_run ON messages (run);
    """,
)
