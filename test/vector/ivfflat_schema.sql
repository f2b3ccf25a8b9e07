-- A schema as people write it for pgvector's ivfflat; 036_ivfflat_migration.pl runs `sed s/ivfflat/ivfremote/` over it.
CREATE EXTENSION IF NOT EXISTS vector;

CREATE TABLE items (id bigint PRIMARY KEY, kind int NOT NULL, title text, embedding vector(16), half halfvec(16), fingerprint bit(64));
SELECT setseed(0.5);
INSERT INTO items
SELECT id, id % 40, 'item ' || id, embedding, embedding,
	('x' || substr(md5((id % 40)::text), 1, 16))::bit(64) # (1::bigint << id % 64)::bit(64) # (1::bigint << id % 37)::bit(64)
FROM (
	SELECT id, array_agg((5 * sin((id % 40 + 1) * j * 1.3) + random())::real ORDER BY j) AS embedding
	FROM generate_series(1, 12000) id, generate_series(1, 16) j GROUP BY id) s
ORDER BY id;
INSERT INTO items (id, kind, title) VALUES (0, 7, 'without a vector');

CREATE INDEX items_default ON items USING ivfflat (embedding) WITH (lists = 50);
CREATE INDEX items_ip ON items USING ivfflat (embedding vector_ip_ops) WITH (lists = 50);
CREATE INDEX items_cosine ON items USING ivfflat (embedding vector_cosine_ops) WITH (lists = 50);
CREATE INDEX items_half_l2 ON items USING ivfflat (half halfvec_l2_ops) WITH (lists = 50);
CREATE INDEX items_half_ip ON items USING ivfflat (half halfvec_ip_ops) WITH (lists = 50);
CREATE INDEX items_half_cosine ON items USING ivfflat (half halfvec_cosine_ops) WITH (lists = 50);
CREATE INDEX items_fingerprint ON items USING ivfflat (fingerprint bit_hamming_ops) WITH (lists = 50);
CREATE INDEX items_as_half ON items USING ivfflat ((embedding::halfvec(16)) halfvec_l2_ops) WITH (lists = 50);
CREATE INDEX items_as_bits ON items USING ivfflat ((binary_quantize(embedding)::bit(16)) bit_hamming_ops) WITH (lists = 10);
CREATE INDEX CONCURRENTLY items_of_kind_7 ON items USING ivfflat (embedding vector_l2_ops) WITH (lists = 5) WHERE (kind = 7);
ALTER INDEX items_cosine SET (lists = 60);
REINDEX INDEX items_cosine;

CREATE TABLE events (id bigint, day date, embedding vector(16)) PARTITION BY RANGE (day);
CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE INDEX events_embedding ON events USING ivfflat (embedding vector_l2_ops) WITH (lists = 5);
INSERT INTO events SELECT id, date '2024-01-01' + (id % 700)::int, embedding FROM items WHERE id BETWEEN 1 AND 4000;
REINDEX TABLE events;

CREATE UNLOGGED TABLE cache (LIKE items INCLUDING INDEXES);
DROP INDEX cache_embedding_idx1, cache_embedding_idx2;
INSERT INTO cache SELECT * FROM items WHERE id <= 2000;
REINDEX TABLE cache;

ALTER DATABASE :"DBNAME" SET ivfflat.probes = 20;
CREATE FUNCTION nearest(query vector, n int) RETURNS SETOF bigint LANGUAGE sql STABLE SET ivfflat.probes = 30
	AS 'SELECT id FROM items ORDER BY embedding <-> query LIMIT n';
ANALYZE;
