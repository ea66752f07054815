-- Limits that several gateway processes share in Redis: which counting of them is in force, and which processes count.

create table platform.limiter_generation (
    single boolean primary key default true check (single),
    generation bigint not null check (generation > 0),
    server text not null,
    built boolean not null default false,
    reason text not null,
    begun timestamptz not null default now()
);
comment on table platform.limiter_generation is
    'Which counting is in force: another one begins where Redis lost what it had, or may have.';
comment on column platform.limiter_generation.built is 'Every process has told what it knew, and accounts are open.';

create table platform.limiter_member (
    journal text primary key,
    generation bigint not null,
    drained bigint not null,
    joined timestamptz not null default now()
);
comment on table platform.limiter_member is
    'The processes that count, by their journals, and up to which record each had drained when it told what it knew.';
