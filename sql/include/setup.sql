-- The start of every file: the extension, and a schema of the file's own. Before it, \set schema NAME.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS ivfremote;
DROP SCHEMA IF EXISTS :schema CASCADE;
RESET client_min_messages;
CREATE SCHEMA :schema;
SET search_path = :schema, public;
-- Plans and results must not hang on the machine's number of processors, or on autovacuum.
SET max_parallel_workers_per_gather = 0;
