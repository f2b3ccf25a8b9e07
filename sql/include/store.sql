-- A server for the file's objects, below the data directory so that no path is in the output, and no other file's.
-- Before it, \set store NAME.
SELECT set_config('test.store', :'store', false) \g (format=unaligned tuples_only=on) /dev/null
DO $$
BEGIN
  EXECUTE format('CREATE SERVER %I FOREIGN DATA WRAPPER ivfremote OPTIONS (url %L)', current_setting('test.store'),
                 'file://' || current_setting('data_directory') || '/ivfremote_regress_' || current_setting('test.store'));
END
$$;
