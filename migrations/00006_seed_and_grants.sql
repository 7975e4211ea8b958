set local role hartonomous_owner;
-- The Hilbert index of a byte over its eight bits (8 dimensions of 1 bit) is the inverse of its Gray code.
insert into hartonomous.atoms (kind, id, hash, size_bytes, content, hilbert)
select 'byte', v, sha256(set_byte('\x00'::bytea, 0, v)), 1, set_byte('\x00'::bytea, 0, v),
    (v # (v >> 1) # (v >> 2) # (v >> 3) # (v >> 4) # (v >> 5) # (v >> 6) # (v >> 7))
from generate_series(0, 255) as v;

grant select on hartonomous.atoms, hartonomous.compositions, hartonomous.models, hartonomous.tokens,
    hartonomous.relations, hartonomous.weight_matrices, hartonomous.token_embeddings, hartonomous.runs, hartonomous.run_tokens,
    hartonomous.settings to hartonomous_admin;
grant insert, update, delete on hartonomous.atoms, hartonomous.compositions, hartonomous.models, hartonomous.tokens,
    hartonomous.relations, hartonomous.weight_matrices, hartonomous.token_embeddings, hartonomous.settings to hartonomous_admin;
grant usage on sequence hartonomous.atom_id_seq to hartonomous_admin;
reset role;
