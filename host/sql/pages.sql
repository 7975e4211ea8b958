\set VERBOSITY terse
-- Whether the request is taken is the system's affair; the memory is as it was.
do $$
  const memory = new WebAssembly.Memory({ initial: 128 });
  const bytes = new Uint8Array(memory.buffer);
  bytes[5 << 20] = 7;
  const taken = plv8.huge_pages(bytes.subarray(100));
  bytes.fill(1, 6 << 20);
  plv8.elog(NOTICE, typeof taken, bytes[5 << 20], bytes[4 << 20], bytes[bytes.length - 1], plv8.huge_pages(bytes.subarray(10, 20)));
$$ language plv8;
do $$ plv8.huge_pages('a text') $$ language plv8;
do $$ plv8.huge_pages() $$ language plv8;
\c -
set hartonomous_v8.extras = off;
do $$ plv8.elog(NOTICE, typeof plv8.huge_pages) $$ language plv8;
