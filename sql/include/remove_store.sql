-- Deletes the objects that the file's server left: nothing collects them yet. A backend's directory is its data directory.
SELECT 'COPY (SELECT 1) TO PROGRAM ' || quote_literal('rm -rf ivfremote_regress_' || :'store') AS remove \gset
:remove;
