-- What a server knows. Plain SQL that PostgreSQL takes as well but for BLOB, which is BYTEA there.

-- state: creating (the name is reserved, the volume may not be there), live, trashed.
CREATE TABLE projects (
    id TEXT NOT NULL PRIMARY KEY,
    slug TEXT NOT NULL,
    name TEXT NOT NULL,
    volume TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN ('creating', 'live', 'trashed')),
    created_us BIGINT NOT NULL,
    trashed_us BIGINT,
    document TEXT NOT NULL,
    verified_us BIGINT,
    verified_problems BIGINT
);
CREATE UNIQUE INDEX projects_by_slug ON projects (slug) WHERE state <> 'trashed';

-- The calls of people and programs, under the keys they may be repeated with.
CREATE TABLE operations (
    key TEXT NOT NULL,
    principal TEXT NOT NULL,
    operation TEXT NOT NULL,
    request BLOB NOT NULL,
    kind TEXT NOT NULL,
    volume TEXT,
    state TEXT NOT NULL CHECK (state IN ('running', 'captured', 'done', 'failed')),
    result TEXT,
    error TEXT,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL,
    PRIMARY KEY (principal, key)
);
CREATE INDEX operations_by_operation ON operations (operation);

-- Append-only: each digest covers its record and the digest before it.
CREATE TABLE audit (
    seq BIGINT NOT NULL PRIMARY KEY,
    at_us BIGINT NOT NULL,
    principal TEXT NOT NULL,
    action TEXT NOT NULL,
    resource TEXT NOT NULL,
    outcome TEXT NOT NULL,
    request_id TEXT NOT NULL,
    previous TEXT NOT NULL,
    digest TEXT NOT NULL
);
