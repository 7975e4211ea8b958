-- One session at a time changes models: an ingest over many transactions, a removal or copy within one. The table turns
-- says whose turn it is, and the advisory lock of its row, whose key was drawn, that this session is still there. A login
-- that cannot become an admin cannot have had a turn, whatever process id and locks it has.

create or replace function hartonomous._has_turn(what text, by_others boolean default false) returns boolean
language plpgsql volatile parallel unsafe security definer set search_path = hartonomous, pg_temp
as $$
begin
    -- pg_stat_activity shows a transaction what it saw first: a session that came since would be missing.
    perform pg_stat_clear_snapshot();
    return exists (
        select from hartonomous.turns t
        join pg_catalog.pg_stat_activity a on a.pid = t.pid and pg_has_role(a.usesysid, 'hartonomous_admin', 'member')
        join pg_catalog.pg_locks l on l.pid = t.pid and l.locktype = 'advisory' and l.granted and l.objsubid = 1
            and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
            and (l.classid::bigint << 32) | l.objid::bigint = t.lock_key
        where t.name = what and not (by_others and t.pid = pg_backend_pid()));
end
$$;
comment on function hartonomous._has_turn(text, boolean) is 'whether any session, or another one than this, has its turn';

create or replace function hartonomous._take_turn(what text) returns boolean
language plpgsql volatile parallel unsafe security definer set search_path = hartonomous, pg_temp
as $$
declare
    key bigint;
begin
    lock table hartonomous.turns in exclusive mode;
    if hartonomous._has_turn(what, by_others => true) then
        return false;
    end if;
    loop
        key := ('x' || replace(gen_random_uuid()::text, '-', ''))::bit(64)::bigint;
        exit when pg_try_advisory_lock(key);
    end loop;
    insert into hartonomous.turns as t (name, pid, lock_key) values (what, pg_backend_pid(), key)
    on conflict (name) do update set pid = excluded.pid, lock_key = excluded.lock_key;
    return true;
end
$$;
comment on function hartonomous._take_turn(text) is
    'have this session''s turn until _end_turn or its end; false where another session has its turn';

create or replace function hartonomous._end_turn(what text) returns void
language plpgsql volatile parallel unsafe security definer set search_path = hartonomous, pg_temp
as $$
declare
    key bigint;
begin
    delete from hartonomous.turns t where t.name = what and t.pid = pg_backend_pid() returning t.lock_key into key;
    if found then
        perform pg_advisory_unlock(key);
    end if;
end
$$;
comment on function hartonomous._end_turn(text) is 'end this session''s turn';

create or replace function hartonomous._await_turn(what text) returns void
language plpgsql volatile parallel unsafe security definer set search_path = hartonomous, pg_temp
as $$
begin
    loop
        begin
            lock table hartonomous.turns in exclusive mode;
            if not hartonomous._has_turn(what, by_others => true) then
                return;
            end if;
            -- Leaving the block by an error lets the table go, which the other session needs to end its turn.
            raise exception using errcode = 'lock_not_available';
        exception when lock_not_available then
            null;
        end;
        perform pg_sleep(0.1);
    end loop;
end
$$;
comment on function hartonomous._await_turn(text) is 'wait until no other session has its turn, and let none have it before this transaction ends';

revoke all on function hartonomous._has_turn(text, boolean), hartonomous._take_turn(text), hartonomous._end_turn(text),
    hartonomous._await_turn(text) from public;
grant execute on function hartonomous._take_turn(text), hartonomous._end_turn(text) to hartonomous_admin;
-- View ingest_progress asks it as whoever reads the view.
grant execute on function hartonomous._has_turn(text, boolean) to hartonomous_user, hartonomous_reader;
