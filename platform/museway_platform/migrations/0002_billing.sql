-- What it costs and who paid. Amounts are bigint nano-USD, prices bigint nano-USD per million tokens, times timestamptz.
-- Owners are opaque ids: nothing here refers to schema platform. What was once written about money is never changed:
-- a trigger refuses it, to the owner of the tables too (revoked privileges would not bind the owner, whom the embedded
-- database is used as). It guards, it decides nothing: the rules of posting stand in museway_billing.

create schema billing;

create function billing.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% on %: append-only', lower(tg_op), tg_table_name using errcode = 'restrict_violation';
end
$$;
comment on function billing.refuse_change() is 'Corrections are new rows that name the old one.';

-- Prices ---------------------------------------------------------------------------------------------------------------

create table billing.price_version (
    version integer primary key check (version > 0),
    effective_from timestamptz not null,
    organization text,
    note text not null default '',
    created timestamptz not null default now()
);
comment on column billing.price_version.organization is 'Null: for everybody.';

create table billing.price (
    version integer not null references billing.price_version,
    model text not null,
    mode text not null,
    ends boolean not null default false,
    input bigint check (input >= 0),
    cached_input bigint check (cached_input >= 0),
    reasoning bigint check (reasoning >= 0),
    output bigint check (output >= 0),
    primary key (version, model, mode),
    check (num_nulls(input, cached_input, reasoning, output) = case when ends then 4 else 0 end),
    check (cached_input <= input)
);
comment on column billing.price.model is '* is any model that has no price of its own.';
comment on column billing.price.ends is 'No prices: from here on the organization''s own price is everybody''s.';

create trigger append_only before update or delete on billing.price_version
    for each row execute function billing.refuse_change();
create trigger no_truncate before truncate on billing.price_version
    for each statement execute function billing.refuse_change();
create trigger append_only before update or delete on billing.price
    for each row execute function billing.refuse_change();
create trigger no_truncate before truncate on billing.price
    for each statement execute function billing.refuse_change();

-- Usage ----------------------------------------------------------------------------------------------------------------

create table billing.usage (
    created timestamptz not null,
    id text not null,
    request_id text not null,
    rid text not null,
    hold_id text not null,
    organization text not null,
    project text not null,
    key text not null,
    mode text not null,
    phase text not null,
    agent integer not null,
    model text not null,
    worker text,
    input bigint check (input >= 0),
    cached_input bigint check (cached_input >= 0),
    measured_input bigint check (measured_input >= 0),
    measured_cached bigint check (measured_cached >= 0),
    reasoning bigint check (reasoning >= 0),
    output bigint check (output >= 0),
    unbilled bigint check (unbilled >= 0),
    state text not null check (state in ('complete', 'interrupted', 'unknown', 'failed')),
    price_version integer not null,
    lines jsonb not null,
    amount_nano_usd bigint not null check (amount_nano_usd >= 0),
    credited_nano_usd bigint not null check (credited_nano_usd between 0 and amount_nano_usd),
    ended timestamptz not null,
    posted timestamptz not null default now(),
    primary key (created, id)
) partition by range (created);
comment on table billing.usage is 'One row per engine call. Null counts are unknown, never 0.';
comment on column billing.usage.created is 'Fixed in the call''s journal slot, so that a record sent twice has the same key.';
comment on column billing.usage.posted is 'The posting date: the same as its transfers''. Books are by this, usage views by `created`.';
comment on column billing.usage.lines is '[[class, tokens, price_nano_usd_per_mtok, amount_nano_usd], ...]';

create index usage_request on billing.usage (request_id);
create index usage_organization on billing.usage (organization, created, id);
create index usage_posted on billing.usage (organization, posted);
create trigger append_only before update or delete on billing.usage
    for each row execute function billing.refuse_change();
create trigger no_truncate before truncate on billing.usage
    for each statement execute function billing.refuse_change();

create table billing.usage_default partition of billing.usage default;
comment on table billing.usage_default is 'A net for months that nobody made a partition for: slower, never lost.';

create function billing.make_usage_partitions(ahead integer default 3, at timestamptz default now()) returns integer
language plpgsql as $$
declare
    first timestamptz := date_trunc('month', at, 'UTC') - interval '1 month';
    start timestamptz;
    stop timestamptz;
    name text;
    made integer := 0;
begin
    perform pg_advisory_xact_lock(hashtextextended('billing.make_usage_partitions', 0));
    for n in 0 .. ahead + 1 loop
        start := (first at time zone 'UTC' + make_interval(months => n)) at time zone 'UTC';
        stop := (first at time zone 'UTC' + make_interval(months => n + 1)) at time zone 'UTC';
        name := to_char(start at time zone 'UTC', '"usage_y"YYYY"m"MM');
        continue when to_regclass('billing.' || name) is not null;
        continue when exists (select from billing.usage_default where created >= start and created < stop);
        execute format('create table billing.%I partition of billing.usage for values from (%L) to (%L)', name, start, stop);
        made := made + 1;
    end loop;
    return made;
end
$$;
comment on function billing.make_usage_partitions(integer, timestamptz) is
    'Last month''s, this month''s and `ahead` more. A month whose rows already fell into the net stays there.';
select billing.make_usage_partitions();

create table billing.usage_rollup (
    hour timestamptz not null,
    organization text not null,
    project text not null,
    key text not null,
    mode text not null,
    model text not null,
    class text not null check (class in ('input', 'cached_input', 'reasoning', 'output', 'request')),
    tokens bigint not null default 0,
    amount_nano_usd bigint not null default 0,
    credited_nano_usd bigint not null default 0,
    requests bigint not null default 0,
    primary key (organization, hour, project, key, mode, model, class)
);
comment on table billing.usage_rollup is
    'Sums of billing.usage, written in its transaction. Class request counts requests and what was credited; its tokens are 0.';

-- Ledger ---------------------------------------------------------------------------------------------------------------

create table billing.account (
    id text primary key,
    organization text not null,
    kind text not null check (kind in ('credit', 'receivable', 'revenue', 'promotion', 'refund', 'unknown', 'rounding', 'clearing')),
    priority smallint not null default 0,
    expires timestamptz,
    debits bigint not null default 0 check (debits >= 0),
    credits bigint not null default 0 check (credits >= 0),
    created timestamptz not null default now(),
    check (kind <> 'credit' or debits <= credits)
);
create index account_organization on billing.account (organization, kind);
comment on table billing.account is 'museway_billing/ledger/README.md says what each kind means.';
comment on column billing.account.debits is 'Sum of its debit transfers, kept in their transaction; derivable from them alone.';

create table billing.transfer (
    id text primary key,
    source text not null,
    kind text not null check (kind in ('usage', 'usage_credit', 'grant', 'lapse', 'adjustment', 'payment', 'refund', 'rounding')),
    organization text not null,
    debit text not null references billing.account,
    credit text not null references billing.account,
    amount bigint not null check (amount > 0),
    phase text not null default 'posted' check (phase in ('posted', 'pending', 'post', 'void')),
    pending text references billing.transfer,
    posted timestamptz not null default now(),
    check (debit <> credit),
    check ((phase in ('post', 'void')) = (pending is not null))
);
create index transfer_organization on billing.transfer (organization, posted, id);
create index transfer_source on billing.transfer (source);
create unique index transfer_pending on billing.transfer (pending) where pending is not null;
comment on table billing.transfer is 'Double entry: each moves one amount from one account to another. Pending ones move nothing yet.';
comment on column billing.transfer.source is 'What it was posted for: a usage record, a grant, a payment.';
create trigger append_only before update or delete on billing.transfer
    for each row execute function billing.refuse_change();
create trigger no_truncate before truncate on billing.transfer
    for each statement execute function billing.refuse_change();

create table billing.money_in (
    organization text not null,
    sequence bigint not null check (sequence > 0),
    delta bigint not null,
    transfer text not null unique references billing.transfer,
    transaction xid8 not null default pg_current_xact_id(),
    created timestamptz not null default now(),
    primary key (organization, sequence)
);
create index money_in_transaction on billing.money_in (transaction);
comment on table billing.money_in is
    'The one door: every posting that changes what may be spent and is not usage. Limiters apply each sequence once.';
create trigger append_only before update or delete on billing.money_in
    for each row execute function billing.refuse_change();
create trigger no_truncate before truncate on billing.money_in
    for each statement execute function billing.refuse_change();

create table billing.outbox (
    id bigint generated always as identity primary key,
    identifier text not null unique,
    organization text not null,
    amount bigint not null check (amount <> 0),
    occurred timestamptz not null default now(),
    state text not null default 'pending' check (state in ('pending', 'sent', 'acknowledged')),
    attempts integer not null default 0,
    sent timestamptz,
    acknowledged timestamptz,
    error text
);
create index outbox_open on billing.outbox (organization, id) where state <> 'acknowledged';
comment on table billing.outbox is
    'Net postings to receivable, one row per organization and drained batch, to be told to the payment provider once.';
comment on column billing.outbox.amount is 'Negative where more was given back than was used: it nets with what is not sent yet.';

-- Journals and receipts ------------------------------------------------------------------------------------------------

create table billing.journal (
    id text primary key,
    host text not null,
    epoch bigint not null,
    drained_sequence bigint not null default 0,
    opened timestamptz not null default now(),
    seen timestamptz not null default now(),
    closed timestamptz
);
comment on table billing.journal is 'Every process''s journal: who owns it now (epoch) and how far it is carried over.';

create table billing.receipt (
    request_id text not null,
    number integer not null check (number > 0),
    organization text not null,
    body bytea not null,
    kid text not null,
    signature bytea not null,
    created timestamptz not null default now(),
    primary key (request_id, number)
);
comment on column billing.receipt.body is 'Canonical JSON (RFC 8785): the bytes that are signed.';
create trigger append_only before update or delete on billing.receipt
    for each row execute function billing.refuse_change();
create trigger no_truncate before truncate on billing.receipt
    for each statement execute function billing.refuse_change();
