-- How deep the check was that `verified_us` tells of: level 0 to 2 and, at level 2, which part of
-- how many was read. Of a check before this version nobody knows: it counts as the deepest.
ALTER TABLE projects ADD COLUMN verified_level BIGINT;
ALTER TABLE projects ADD COLUMN verified_part BIGINT;
ALTER TABLE projects ADD COLUMN verified_of BIGINT;
UPDATE projects SET verified_level = 2, verified_part = 1, verified_of = 1
    WHERE verified_us IS NOT NULL;

-- The entry that the call is about, as its words were understood before it took effect.
ALTER TABLE operations ADD COLUMN entry TEXT;
