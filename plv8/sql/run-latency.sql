-- How long recorded runs took

create or replace view hartonomous.run_latency as
select model, kind, count(*) as runs, min(created_at) as first_at, max(created_at) as last_at,
    percentile_cont(0.5) within group (order by total_ns) / 1e6 as p50_ms,
    percentile_cont(0.9) within group (order by total_ns) / 1e6 as p90_ms,
    percentile_cont(0.99) within group (order by total_ns) / 1e6 as p99_ms,
    percentile_cont(0.5) within group (order by load_ns + prompt_eval_ns) / 1e6 as p50_first_token_ms,
    percentile_cont(0.99) within group (order by load_ns + prompt_eval_ns) / 1e6 as p99_first_token_ms,
    1e9 * sum(prompt_eval_count) / nullif(sum(prompt_eval_ns), 0) as prompt_tokens_per_second,
    1e9 * sum(eval_count) / nullif(sum(eval_ns), 0) as tokens_per_second
from hartonomous.run_list
group by model, kind;
comment on view hartonomous.run_latency is 'percentiles and rates of the recorded runs that the caller sees, by model and kind of call';
comment on column hartonomous.run_latency.model is 'name of the model then';
comment on column hartonomous.run_latency.kind is 'what was called';
comment on column hartonomous.run_latency.runs is 'number of runs';
comment on column hartonomous.run_latency.first_at is 'when the first of them was';
comment on column hartonomous.run_latency.last_at is 'when the last of them was';
comment on column hartonomous.run_latency.p50_ms is 'median of the whole call, in milliseconds';
comment on column hartonomous.run_latency.p90_ms is 'time within which 90 % of the calls ended';
comment on column hartonomous.run_latency.p99_ms is 'time within which 99 % of the calls ended';
comment on column hartonomous.run_latency.p50_first_token_ms is 'median of loading and prompt, in milliseconds';
comment on column hartonomous.run_latency.p99_first_token_ms is 'time within which 99 % had their first token';
comment on column hartonomous.run_latency.prompt_tokens_per_second is 'prompt tokens computed a second';
comment on column hartonomous.run_latency.tokens_per_second is 'tokens written a second; those of a batch each count its whole time';

grant select on hartonomous.run_latency to hartonomous_user, hartonomous_reader;
