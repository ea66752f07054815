-- Why somebody was limited, as it was at the decision: /v1/limits/refusals and `museway limits refusals`.

create table platform.refused_request (
    request_id text not null,
    organization text not null,
    project text not null,
    key text not null,
    mode text not null,
    code text not null,
    scope text not null check (scope in ('organization', 'project', 'key')),
    scope_id text not null,
    metric text not null,
    limit_mode text,
    "limit" bigint not null,
    used bigint not null,
    held bigint not null,
    asked bigint not null,
    retry_after_s double precision,
    holders jsonb not null,
    times integer not null check (times > 0),
    created timestamptz not null,
    primary key (organization, created, request_id)
);
create index refused_request_created on platform.refused_request (created);
comment on table platform.refused_request is 'Refusals by a limit, a cap or the credit; pruned after 30 days. `times`: how many of the same kind within a second this row, the first, stands for.';
comment on column platform.refused_request.holders is 'Who held most of the limit''s scope at that moment: [{"key", "requests", "amount_nano_usd", "output_tokens"}].';
