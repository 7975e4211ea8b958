set local role hartonomous_owner;

-- ref_count of an atom is the number of rows that refer to it: children of compositions, tokens, matrices, both ends
-- of relations. Statement triggers add up the rows of each statement, so bulk loads stay bulk.

create function hartonomous.increment_ref_count(kind hartonomous.atom_kind, ids bigint[]) returns void
language sql volatile security definer set search_path = hartonomous, pg_temp
as $$
    update hartonomous.atoms a set ref_count = a.ref_count + n.n
    from (select i.id, count(*) as n from unnest(increment_ref_count.ids) as i (id) group by i.id) n
    where a.kind = increment_ref_count.kind and a.id = n.id
$$;
comment on function hartonomous.increment_ref_count(hartonomous.atom_kind, bigint[]) is 'count one reference more for each id given';
revoke all on function hartonomous.increment_ref_count(hartonomous.atom_kind, bigint[]) from public;

create function hartonomous.decrement_ref_count(kind hartonomous.atom_kind, ids bigint[]) returns void
language sql volatile security definer set search_path = hartonomous, pg_temp
as $$
    update hartonomous.atoms a set ref_count = a.ref_count - n.n
    from (select i.id, count(*) as n from unnest(decrement_ref_count.ids) as i (id) group by i.id) n
    where a.kind = decrement_ref_count.kind and a.id = n.id
$$;
comment on function hartonomous.decrement_ref_count(hartonomous.atom_kind, bigint[]) is 'count one reference less for each id given';
revoke all on function hartonomous.decrement_ref_count(hartonomous.atom_kind, bigint[]) from public;

create function hartonomous._count_compositions() returns trigger
language plpgsql security definer set search_path = hartonomous, pg_temp
as $$
declare
    counted record;
begin
    if tg_op = 'INSERT' then
        for counted in select child_kind as kind, array_agg(child_id) as ids from inserted group by child_kind loop
            perform hartonomous.increment_ref_count(counted.kind, counted.ids);
        end loop;
    else
        for counted in select child_kind as kind, array_agg(child_id) as ids from deleted group by child_kind loop
            perform hartonomous.decrement_ref_count(counted.kind, counted.ids);
        end loop;
    end if;
    return null;
end
$$;
comment on function hartonomous._count_compositions() is 'keep ref_count for statements on compositions';
revoke all on function hartonomous._count_compositions() from public;
create trigger count_inserted after insert on hartonomous.compositions referencing new table as inserted
    for each statement execute function hartonomous._count_compositions();
create trigger count_deleted after delete on hartonomous.compositions referencing old table as deleted
    for each statement execute function hartonomous._count_compositions();

create function hartonomous._count_tokens() returns trigger
language plpgsql security definer set search_path = hartonomous, pg_temp
as $$
declare
    counted record;
begin
    if tg_op = 'INSERT' then
        for counted in select 'token'::hartonomous.atom_kind as kind, array_agg(atom_id) as ids from inserted having count(*) > 0 loop
            perform hartonomous.increment_ref_count(counted.kind, counted.ids);
        end loop;
    else
        for counted in select 'token'::hartonomous.atom_kind as kind, array_agg(atom_id) as ids from deleted having count(*) > 0 loop
            perform hartonomous.decrement_ref_count(counted.kind, counted.ids);
        end loop;
    end if;
    return null;
end
$$;
comment on function hartonomous._count_tokens() is 'keep ref_count for statements on tokens';
revoke all on function hartonomous._count_tokens() from public;
create trigger count_inserted after insert on hartonomous.tokens referencing new table as inserted
    for each statement execute function hartonomous._count_tokens();
create trigger count_deleted after delete on hartonomous.tokens referencing old table as deleted
    for each statement execute function hartonomous._count_tokens();

create function hartonomous._count_weight_matrices() returns trigger
language plpgsql security definer set search_path = hartonomous, pg_temp
as $$
declare
    counted record;
begin
    if tg_op = 'INSERT' then
        for counted in select 'composite'::hartonomous.atom_kind as kind, array_agg(atom_id) as ids from inserted having count(*) > 0 loop
            perform hartonomous.increment_ref_count(counted.kind, counted.ids);
        end loop;
    else
        for counted in select 'composite'::hartonomous.atom_kind as kind, array_agg(atom_id) as ids from deleted having count(*) > 0 loop
            perform hartonomous.decrement_ref_count(counted.kind, counted.ids);
        end loop;
    end if;
    return null;
end
$$;
comment on function hartonomous._count_weight_matrices() is 'keep ref_count for statements on weight_matrices';
revoke all on function hartonomous._count_weight_matrices() from public;
create trigger count_inserted after insert on hartonomous.weight_matrices referencing new table as inserted
    for each statement execute function hartonomous._count_weight_matrices();
create trigger count_deleted after delete on hartonomous.weight_matrices referencing old table as deleted
    for each statement execute function hartonomous._count_weight_matrices();

create function hartonomous._count_relations() returns trigger
language plpgsql security definer set search_path = hartonomous, pg_temp
as $$
declare
    counted record;
begin
    if tg_op = 'INSERT' then
        for counted in select 'token'::hartonomous.atom_kind as kind, array_agg(e.id) as ids from (select from_id as id from inserted union all select to_id from inserted) e having count(*) > 0 loop
            perform hartonomous.increment_ref_count(counted.kind, counted.ids);
        end loop;
    else
        for counted in select 'token'::hartonomous.atom_kind as kind, array_agg(e.id) as ids from (select from_id as id from deleted union all select to_id from deleted) e having count(*) > 0 loop
            perform hartonomous.decrement_ref_count(counted.kind, counted.ids);
        end loop;
    end if;
    return null;
end
$$;
comment on function hartonomous._count_relations() is 'keep ref_count for statements on relations';
revoke all on function hartonomous._count_relations() from public;
create trigger count_inserted after insert on hartonomous.relations referencing new table as inserted
    for each statement execute function hartonomous._count_relations();
create trigger count_deleted after delete on hartonomous.relations referencing old table as deleted
    for each statement execute function hartonomous._count_relations();
reset role;
