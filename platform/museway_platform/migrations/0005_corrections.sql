-- What is changed afterwards is a new entry: adjustments and corrections say why; text that was never counted has a reserve.

create table billing.adjustment (
    id text primary key,
    organization text not null,
    amount bigint not null,
    subject text,
    reason text not null check (reason <> ''),
    created timestamptz not null default now()
);
create index adjustment_organization on billing.adjustment (organization, created);
comment on table billing.adjustment is
    'Why money was moved by hand. Its transfers are named after it: <id> or <id>:<number>, and add up to its amount.';
comment on column billing.adjustment.amount is 'Above 0: to the customer. Below: from the customer.';
comment on column billing.adjustment.subject is
    'The usage record (use_) or request (req_) that it corrects; null: none. Below 0 with a record: its unknown count became known.';
create trigger append_only before update or delete on billing.adjustment
    for each row execute function billing.refuse_change();
create trigger no_truncate before truncate on billing.adjustment
    for each statement execute function billing.refuse_change();

alter table billing.usage add column reserve_nano_usd bigint not null default 0 check (reserve_nano_usd >= 0);
comment on column billing.usage.reserve_nano_usd is
    'Of an unknown record: what its hold had beyond the amount, reserved until its count is known or given up.';

alter table billing.transfer
    drop constraint transfer_kind_check,
    add constraint transfer_kind_check check (kind in
        ('usage', 'usage_credit', 'grant', 'lapse', 'adjustment', 'payment', 'refund', 'rounding', 'unknown'));
create index transfer_reserve on billing.transfer (organization) where kind = 'unknown' and phase = 'pending';
