-- The object stores that this node has held, by their URLs: where the record of one is missing, its
-- disk is away, and it is no fresh store.
CREATE TABLE held_stores (
    location TEXT NOT NULL PRIMARY KEY,
    since_us BIGINT NOT NULL
);
