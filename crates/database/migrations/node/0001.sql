-- What a node knows. Plain SQL that PostgreSQL takes as well but for BLOB, which is BYTEA there.

-- The heads as this node last saw them acknowledged.
CREATE TABLE heads (
    volume TEXT NOT NULL PRIMARY KEY,
    version TEXT NOT NULL,
    body BLOB NOT NULL,
    saved_us BIGINT NOT NULL
);

-- The completion records: which commit the copy of a volume on this node descends from.
CREATE TABLE copies (
    volume TEXT NOT NULL PRIMARY KEY,
    base TEXT NOT NULL,
    tree TEXT NOT NULL,
    seq BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    unsaved_bytes BIGINT,
    looked_us BIGINT NOT NULL
);

-- The read-only snapshots below stored/; root is null until their tree is known.
CREATE TABLE stored (
    volume TEXT NOT NULL,
    operation TEXT NOT NULL,
    entry TEXT,
    root TEXT,
    captured_us BIGINT NOT NULL,
    PRIMARY KEY (volume, operation)
);

-- Operations whose effect on the object store is not known yet.
CREATE TABLE pending (
    operation TEXT NOT NULL PRIMARY KEY,
    volume TEXT NOT NULL,
    kind TEXT NOT NULL,
    principal TEXT NOT NULL,
    request BLOB NOT NULL,
    body TEXT NOT NULL,
    created_us BIGINT NOT NULL
);
CREATE INDEX pending_by_volume ON pending (volume);

-- What operations came to, for as long as their ids may be asked for again.
CREATE TABLE results (
    operation TEXT NOT NULL PRIMARY KEY,
    volume TEXT NOT NULL,
    request BLOB NOT NULL,
    result TEXT NOT NULL,
    seq BIGINT NOT NULL,
    at_us BIGINT NOT NULL
);
CREATE INDEX results_by_volume ON results (volume);

-- Subvolumes that a restore swapped out, kept and watched for late writes.
CREATE TABLE discarded (
    operation TEXT NOT NULL PRIMARY KEY,
    volume TEXT NOT NULL,
    generation BIGINT NOT NULL,
    entry TEXT,
    moved_us BIGINT NOT NULL
);

CREATE TABLE settings (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
