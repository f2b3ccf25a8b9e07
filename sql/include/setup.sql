-- The start of every file: the extension, and a schema of the file's own. Before it, \set schema NAME.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS ivfremote;
DROP SCHEMA IF EXISTS :schema CASCADE;
RESET client_min_messages;
CREATE SCHEMA :schema;
SET search_path = :schema, public;
-- Plans and results must not hang on the machine's number of processors, or on autovacuum.
SET max_parallel_workers_per_gather = 0;
SET jit = off;
-- Training threads that wait for each other on a busy machine would make many small builds slow.
SET max_parallel_maintenance_workers = 0;
-- What an error says, with its SQLSTATE. (psql prefixes errors and notices of included files with their paths.)
CREATE FUNCTION attempt(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  state text; message text; detail text; hint text;
BEGIN
  EXECUTE command;
  RETURN 'done';
EXCEPTION WHEN OTHERS THEN
  GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
  RETURN concat_ws(' | ', state, message, nullif(detail, ''), nullif(hint, ''));
END $$;
