-- One visit after the other, each committed by itself: whatever moment is looked at, none is missing.
DO $$
BEGIN
  FOR visit IN 1..100000 LOOP
    INSERT INTO visits VALUES (visit);
    COMMIT;
  END LOOP;
END
$$;
