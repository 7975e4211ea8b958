create table w (g text, v int);
insert into w values ('a', 1), ('a', 1), ('a', 3), ('b', 5), ('b', null);
create function js_row_number() returns int language plv8 window as $$ return plv8.get_window_object().get_current_position() + 1 $$;
create function js_count() returns int language plv8 window as $$ return plv8.get_window_object().get_partition_row_count() $$;
create function js_rank() returns int language plv8 window as $$
  const w = plv8.get_window_object(), at = w.get_current_position();
  const state = w.get_partition_local() || { rank: 1 };
  if (at > 0 && !w.rows_are_peers(at, at - 1)) state.rank = at + 1;
  w.set_partition_local(state);
  w.set_mark_position(at);
  return state.rank;
$$;
create function js_lag(v anyelement) returns anyelement language plv8 window as $$
  const w = plv8.get_window_object();
  return w.get_func_arg_in_partition(0, -1, w.SEEK_CURRENT, false);
$$;
create function js_first(v anyelement) returns anyelement language plv8 window as $$
  const w = plv8.get_window_object();
  return w.get_func_arg_in_frame(0, 0, w.SEEK_HEAD, false);
$$;
create function js_current(v int) returns text language plv8 window as $$ return String(plv8.get_window_object().get_func_arg_current(0)) + '=' + v $$;
select g, v, js_row_number() over o, js_count() over o, js_rank() over o, js_lag(v) over o, js_first(v) over o, js_current(v) over o
  from w window o as (partition by g order by v) order by g, v;
create function overflow(n int) returns void language plv8 window as $$
  const w = plv8.get_window_object();
  w.get_partition_local(n);
  w.set_partition_local({ text: 'x'.repeat(50) });
$$;
select overflow(5) over ();
select overflow(1000) over () from w limit 1;
create function no_window() returns void language plv8 as $$ plv8.get_window_object() $$;
select no_window();
