-- Who may ask and how much. Ids are prefix + ULID (museway_platform/identity/ids.py), money is bigint nano-USD,
-- times are timestamptz. Nothing here refers to schema billing and nothing there refers to here: an owner is an opaque id.

create table platform.plan (
    id text primary key,
    limits jsonb not null,
    entitlements jsonb not null default '{}',
    created timestamptz not null default now()
);
comment on table platform.plan is 'Limits (museway_platform/limits/policy.py) and entitlements that come with a plan.';

create table platform.organization (
    id text primary key,
    name text not null,
    plan text not null references platform.plan,
    state text not null default 'active' check (state in ('active', 'suspended')),
    allowance_nano_usd bigint not null default 0 check (allowance_nano_usd >= 0),
    created timestamptz not null default now()
);
comment on column platform.organization.allowance_nano_usd is 'How far the balance may go below zero.';

create table platform.project (
    id text primary key,
    organization text not null references platform.organization,
    name text not null,
    state text not null default 'active' check (state in ('active', 'archived')),
    default_mode text check (default_mode in ('instant', 'thinking', 'contemplating', 'auto')),
    created timestamptz not null default now(),
    unique (organization, name)
);

create table platform.api_key (
    id text primary key,
    project text not null references platform.project,
    name text not null,
    live boolean not null,
    scopes text[] not null default '{}',
    state text not null default 'active' check (state in ('active', 'revoked')),
    created timestamptz not null default now(),
    revoked timestamptz,
    last_used timestamptz,
    check ((state = 'revoked') = (revoked is not null))
);
create index api_key_project on platform.api_key (project);
comment on column platform.api_key.scopes is 'Empty means every scope.';

create table platform.api_key_secret (
    sha256 bytea primary key check (length(sha256) = 32),
    api_key text not null references platform.api_key,
    hint text not null,
    created timestamptz not null default now(),
    expires timestamptz
);
create index api_key_secret_api_key on platform.api_key_secret (api_key);
comment on table platform.api_key_secret is 'Rotation keeps the key''s id: old and new secret are both valid until the old one expires.';
comment on column platform.api_key_secret.hint is 'Prefix and last four characters, to tell secrets apart on a page.';

create table platform.person (
    id text primary key,
    email text not null unique check (email = lower(email)),
    name text not null default '',
    created timestamptz not null default now()
);

create table platform.member (
    organization text not null references platform.organization,
    person text not null references platform.person,
    role text not null check (role in ('owner', 'admin', 'developer', 'billing', 'viewer')),
    created timestamptz not null default now(),
    primary key (organization, person)
);

create table platform.rate_limit (
    scope text not null check (scope in ('organization', 'project', 'key')),
    scope_id text not null,
    metric text not null check (metric in ('requests', 'input_tokens', 'output_tokens', 'concurrent_requests')),
    mode text not null default '' check (mode in ('', 'instant', 'thinking', 'contemplating', 'auto')),
    capacity bigint not null check (capacity >= 0),
    refill bigint not null default 0 check (refill >= 0),
    window_s integer not null default 60 check (window_s > 0),
    primary key (scope, scope_id, metric, mode)
);
comment on table platform.rate_limit is 'A bucket of `capacity` that gets `refill` back per `window_s`; overrides the plan''s limit of the same metric and mode.';
comment on column platform.rate_limit.mode is 'Empty: all modes together.';

create table platform.cap (
    scope text not null check (scope in ('organization', 'project', 'key')),
    scope_id text not null,
    period text not null check (period in ('day', 'week', 'month', 'total')),
    amount_nano_usd bigint not null check (amount_nano_usd >= 0),
    created timestamptz not null default now(),
    primary key (scope, scope_id, period)
);
comment on table platform.cap is 'What may be spent in a period (UTC; weeks begin on Monday) by admission time. It stops, exactly.';

create table platform.denial (
    scope text not null check (scope in ('organization', 'project', 'key')),
    scope_id text not null,
    what text not null,
    created timestamptz not null default now(),
    primary key (scope, scope_id, what)
);
comment on table platform.denial is 'What somebody is refused though the plan allows it: mode:<mode>, model:<model>.';

-- Changes travel to gateways by NOTIFY, and by a poll for whoever missed it. A reader remembers the xmin of the snapshot
-- in which it last read and asks for rows of transactions since: ids alone would skip a row whose transaction took its id
-- early and committed late.
create table platform.change (
    id bigint generated always as identity primary key,
    transaction xid8 not null default pg_current_xact_id(),
    kind text not null,
    subject text not null,
    created timestamptz not null default now()
);
create index change_transaction on platform.change (transaction);
comment on table platform.change is 'What changed of what a gateway keeps in memory; pruned after a day.';

-- By trigger, so that a key revoked at a psql prompt is refused within a second, too.
create function platform.announce() returns trigger language plpgsql as $$
declare
    changed jsonb := to_jsonb(coalesce(new, old));
    subject text := changed ->> tg_argv[1];
begin
    insert into platform.change (kind, subject) values (tg_argv[0], subject);
    perform pg_notify('museway_identity', subject);
    return null;
end
$$;

create trigger announce after insert or update or delete on platform.plan
    for each row execute function platform.announce('plan', 'id');
create trigger announce after insert or update or delete on platform.organization
    for each row execute function platform.announce('organization', 'id');
create trigger announce after insert or update or delete on platform.project
    for each row execute function platform.announce('project', 'id');
create trigger announce after insert or delete or update of project, live, scopes, state on platform.api_key
    for each row execute function platform.announce('key', 'id');
create trigger announce after insert or update or delete on platform.api_key_secret
    for each row execute function platform.announce('key', 'api_key');
create trigger announce after insert or update or delete on platform.rate_limit
    for each row execute function platform.announce('limits', 'scope_id');
create trigger announce after insert or update or delete on platform.cap
    for each row execute function platform.announce('limits', 'scope_id');
create trigger announce after insert or update or delete on platform.denial
    for each row execute function platform.announce('limits', 'scope_id');

insert into platform.plan (id, limits, entitlements) values
    ('trial', '{"rates": [
        {"metric": "requests", "capacity": 60, "refill": 60, "window_s": 60},
        {"metric": "input_tokens", "capacity": 100000, "refill": 100000, "window_s": 60},
        {"metric": "output_tokens", "capacity": 20000, "refill": 20000, "window_s": 60},
        {"metric": "concurrent_requests", "capacity": 8}]}', '{}'),
    ('standard', '{"rates": [
        {"metric": "requests", "capacity": 1000, "refill": 1000, "window_s": 60},
        {"metric": "input_tokens", "capacity": 2000000, "refill": 2000000, "window_s": 60},
        {"metric": "output_tokens", "capacity": 400000, "refill": 400000, "window_s": 60},
        {"metric": "concurrent_requests", "capacity": 200}]}', '{}'),
    ('unlimited', '{"rates": []}', '{}');
