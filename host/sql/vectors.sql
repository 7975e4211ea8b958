-- hartonomous_v8_inner_product: vectors of floats that are bytea
set extra_float_digits = 1;
create table vectors (name text, v bytea);
alter table vectors alter v set storage main;
insert into vectors values ('empty', ''), ('one', '\x0000803f'), ('minus two', '\x000000c0'), ('infinite', '\x0000807f'),
    ('ones', decode(repeat('0000803f', 11), 'hex')), ('halves', decode(repeat('0000003f', 11), 'hex')),
    ('long', decode(repeat('0000803f', 384), 'hex')), ('longer', decode(repeat('0000003f', 5000), 'hex'));
select a.name, b.name, hartonomous_v8_inner_product(a.v, b.v) as product
from vectors a join vectors b on length(a.v) = length(b.v) and a.name <= b.name order by 1, 2;
-- with and without a rest of eight
select n, hartonomous_v8_inner_product(v, v) as product
from (select n, decode(repeat('00000040', n), 'hex') as v from generate_series(1, 33) n) s where n % 8 in (0, 1, 7);
select hartonomous_v8_inner_product(null, '\x');
select hartonomous_v8_inner_product('\x0000803f', '\x0000803f0000803f');
select hartonomous_v8_inner_product('\x0000', '\x0000');
drop table vectors;
