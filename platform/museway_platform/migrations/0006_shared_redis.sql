-- One Redis may serve several databases: what is not an organization's is named by this.

alter table platform.limiter_generation add column deployment text not null default gen_random_uuid()::text;
comment on column platform.limiter_generation.deployment is 'This database among those that count in the same Redis.';
