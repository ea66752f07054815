-- What the migrations produce, as `pg_dump --schema-only` says it. Generated, never edited:
-- python -m museway_platform.database.migrate --write
-- Monthly partitions are left out: which ones exist depends on the day.


CREATE SCHEMA billing;

CREATE SCHEMA platform;

CREATE FUNCTION billing.make_usage_partitions(ahead integer DEFAULT 3, at timestamp with time zone DEFAULT now()) RETURNS integer
    LANGUAGE plpgsql
    AS $$
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

COMMENT ON FUNCTION billing.make_usage_partitions(ahead integer, at timestamp with time zone) IS 'Last month''s, this month''s and `ahead` more. A month whose rows already fell into the net stays there.';

CREATE FUNCTION billing.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
begin
    raise exception '% on %: append-only', lower(tg_op), tg_table_name using errcode = 'restrict_violation';
end
$$;

COMMENT ON FUNCTION billing.refuse_change() IS 'Corrections are new rows that name the old one.';

CREATE FUNCTION platform.announce() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
declare
    changed jsonb := to_jsonb(coalesce(new, old));
    subject text := changed ->> tg_argv[1];
begin
    insert into platform.change (kind, subject) values (tg_argv[0], subject);
    perform pg_notify('museway_identity', subject);
    return null;
end
$$;

CREATE TABLE billing.account (
    id text NOT NULL,
    organization text NOT NULL,
    kind text NOT NULL,
    priority smallint DEFAULT 0 NOT NULL,
    expires timestamp with time zone,
    debits bigint DEFAULT 0 NOT NULL,
    credits bigint DEFAULT 0 NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT account_check CHECK (((kind <> 'credit'::text) OR (debits <= credits))),
    CONSTRAINT account_credits_check CHECK ((credits >= 0)),
    CONSTRAINT account_debits_check CHECK ((debits >= 0)),
    CONSTRAINT account_kind_check CHECK ((kind = ANY (ARRAY['credit'::text, 'receivable'::text, 'revenue'::text, 'promotion'::text, 'refund'::text, 'unknown'::text, 'rounding'::text, 'clearing'::text])))
);

COMMENT ON TABLE billing.account IS 'museway_billing/ledger/README.md says what each kind means.';

COMMENT ON COLUMN billing.account.debits IS 'Sum of its debit transfers, kept in their transaction; derivable from them alone.';

CREATE TABLE billing.adjustment (
    id text NOT NULL,
    organization text NOT NULL,
    amount bigint NOT NULL,
    subject text,
    reason text NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT adjustment_reason_check CHECK ((reason <> ''::text))
);

COMMENT ON TABLE billing.adjustment IS 'Why money was moved by hand. Its transfers are named after it: <id> or <id>:<number>, and add up to its amount.';

COMMENT ON COLUMN billing.adjustment.amount IS 'Above 0: to the customer. Below: from the customer.';

COMMENT ON COLUMN billing.adjustment.subject IS 'The usage record (use_) or request (req_) that it corrects; null: none. Below 0 with a record: its unknown count became known.';

CREATE TABLE billing.journal (
    id text NOT NULL,
    host text NOT NULL,
    epoch bigint NOT NULL,
    drained_sequence bigint DEFAULT 0 NOT NULL,
    opened timestamp with time zone DEFAULT now() NOT NULL,
    seen timestamp with time zone DEFAULT now() NOT NULL,
    closed timestamp with time zone
);

COMMENT ON TABLE billing.journal IS 'Every process''s journal: who owns it now (epoch) and how far it is carried over.';

CREATE TABLE billing.money_in (
    organization text NOT NULL,
    sequence bigint NOT NULL,
    delta bigint NOT NULL,
    transfer text NOT NULL,
    transaction xid8 DEFAULT pg_current_xact_id() NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT money_in_sequence_check CHECK ((sequence > 0))
);

COMMENT ON TABLE billing.money_in IS 'The one door: every posting that changes what may be spent and is not usage. Limiters apply each sequence once.';

CREATE TABLE billing.outbox (
    id bigint NOT NULL,
    identifier text NOT NULL,
    organization text NOT NULL,
    amount bigint NOT NULL,
    occurred timestamp with time zone DEFAULT now() NOT NULL,
    state text DEFAULT 'pending'::text NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    sent timestamp with time zone,
    acknowledged timestamp with time zone,
    error text,
    CONSTRAINT outbox_amount_check CHECK ((amount <> 0)),
    CONSTRAINT outbox_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'sent'::text, 'acknowledged'::text])))
);

COMMENT ON TABLE billing.outbox IS 'Net postings to receivable, one row per organization and drained batch, to be told to the payment provider once.';

COMMENT ON COLUMN billing.outbox.amount IS 'Negative where more was given back than was used: it nets with what is not sent yet.';

ALTER TABLE billing.outbox ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME billing.outbox_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE billing.price (
    version integer NOT NULL,
    model text NOT NULL,
    mode text NOT NULL,
    ends boolean DEFAULT false NOT NULL,
    input bigint,
    cached_input bigint,
    reasoning bigint,
    output bigint,
    CONSTRAINT price_cached_input_check CHECK ((cached_input >= 0)),
    CONSTRAINT price_check CHECK ((num_nulls(input, cached_input, reasoning, output) =
CASE
    WHEN ends THEN 4
    ELSE 0
END)),
    CONSTRAINT price_check1 CHECK ((cached_input <= input)),
    CONSTRAINT price_input_check CHECK ((input >= 0)),
    CONSTRAINT price_output_check CHECK ((output >= 0)),
    CONSTRAINT price_reasoning_check CHECK ((reasoning >= 0))
);

COMMENT ON COLUMN billing.price.model IS '* is any model that has no price of its own.';

COMMENT ON COLUMN billing.price.ends IS 'No prices: from here on the organization''s own price is everybody''s.';

CREATE TABLE billing.price_version (
    version integer NOT NULL,
    effective_from timestamp with time zone NOT NULL,
    organization text,
    note text DEFAULT ''::text NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT price_version_version_check CHECK ((version > 0))
);

COMMENT ON COLUMN billing.price_version.organization IS 'Null: for everybody.';

CREATE TABLE billing.receipt (
    request_id text NOT NULL,
    number integer NOT NULL,
    organization text NOT NULL,
    body bytea NOT NULL,
    kid text NOT NULL,
    signature bytea NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT receipt_number_check CHECK ((number > 0))
);

COMMENT ON COLUMN billing.receipt.body IS 'Canonical JSON (RFC 8785): the bytes that are signed.';

CREATE TABLE billing.transfer (
    id text NOT NULL,
    source text NOT NULL,
    kind text NOT NULL,
    organization text NOT NULL,
    debit text NOT NULL,
    credit text NOT NULL,
    amount bigint NOT NULL,
    phase text DEFAULT 'posted'::text NOT NULL,
    pending text,
    posted timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT transfer_amount_check CHECK ((amount > 0)),
    CONSTRAINT transfer_check CHECK ((debit <> credit)),
    CONSTRAINT transfer_check1 CHECK (((phase = ANY (ARRAY['post'::text, 'void'::text])) = (pending IS NOT NULL))),
    CONSTRAINT transfer_kind_check CHECK ((kind = ANY (ARRAY['usage'::text, 'usage_credit'::text, 'grant'::text, 'lapse'::text, 'adjustment'::text, 'payment'::text, 'refund'::text, 'rounding'::text, 'unknown'::text]))),
    CONSTRAINT transfer_phase_check CHECK ((phase = ANY (ARRAY['posted'::text, 'pending'::text, 'post'::text, 'void'::text])))
);

COMMENT ON TABLE billing.transfer IS 'Double entry: each moves one amount from one account to another. Pending ones move nothing yet.';

COMMENT ON COLUMN billing.transfer.source IS 'What it was posted for: a usage record, a grant, a payment.';

CREATE TABLE billing.usage (
    created timestamp with time zone NOT NULL,
    id text NOT NULL,
    request_id text NOT NULL,
    rid text NOT NULL,
    hold_id text NOT NULL,
    organization text NOT NULL,
    project text NOT NULL,
    key text NOT NULL,
    mode text NOT NULL,
    phase text NOT NULL,
    agent integer NOT NULL,
    model text NOT NULL,
    worker text,
    input bigint,
    cached_input bigint,
    measured_input bigint,
    measured_cached bigint,
    reasoning bigint,
    output bigint,
    unbilled bigint,
    state text NOT NULL,
    price_version integer NOT NULL,
    lines jsonb NOT NULL,
    amount_nano_usd bigint NOT NULL,
    credited_nano_usd bigint NOT NULL,
    ended timestamp with time zone NOT NULL,
    posted timestamp with time zone DEFAULT now() NOT NULL,
    reserve_nano_usd bigint DEFAULT 0 NOT NULL,
    CONSTRAINT usage_amount_nano_usd_check CHECK ((amount_nano_usd >= 0)),
    CONSTRAINT usage_cached_input_check CHECK ((cached_input >= 0)),
    CONSTRAINT usage_check CHECK (((credited_nano_usd >= 0) AND (credited_nano_usd <= amount_nano_usd))),
    CONSTRAINT usage_input_check CHECK ((input >= 0)),
    CONSTRAINT usage_measured_cached_check CHECK ((measured_cached >= 0)),
    CONSTRAINT usage_measured_input_check CHECK ((measured_input >= 0)),
    CONSTRAINT usage_output_check CHECK ((output >= 0)),
    CONSTRAINT usage_reasoning_check CHECK ((reasoning >= 0)),
    CONSTRAINT usage_reserve_nano_usd_check CHECK ((reserve_nano_usd >= 0)),
    CONSTRAINT usage_state_check CHECK ((state = ANY (ARRAY['complete'::text, 'interrupted'::text, 'unknown'::text, 'failed'::text]))),
    CONSTRAINT usage_unbilled_check CHECK ((unbilled >= 0))
)
PARTITION BY RANGE (created);

COMMENT ON TABLE billing.usage IS 'One row per engine call. Null counts are unknown, never 0.';

COMMENT ON COLUMN billing.usage.created IS 'Fixed in the call''s journal slot, so that a record sent twice has the same key.';

COMMENT ON COLUMN billing.usage.lines IS '[[class, tokens, price_nano_usd_per_mtok, amount_nano_usd], ...]';

COMMENT ON COLUMN billing.usage.posted IS 'The posting date: the same as its transfers''. Books are by this, usage views by `created`.';

COMMENT ON COLUMN billing.usage.reserve_nano_usd IS 'Of an unknown record: what its hold had beyond the amount, reserved until its count is known or given up.';

CREATE TABLE billing.usage_default (
    created timestamp with time zone CONSTRAINT usage_created_not_null NOT NULL,
    id text CONSTRAINT usage_id_not_null NOT NULL,
    request_id text CONSTRAINT usage_request_id_not_null NOT NULL,
    rid text CONSTRAINT usage_rid_not_null NOT NULL,
    hold_id text CONSTRAINT usage_hold_id_not_null NOT NULL,
    organization text CONSTRAINT usage_organization_not_null NOT NULL,
    project text CONSTRAINT usage_project_not_null NOT NULL,
    key text CONSTRAINT usage_key_not_null NOT NULL,
    mode text CONSTRAINT usage_mode_not_null NOT NULL,
    phase text CONSTRAINT usage_phase_not_null NOT NULL,
    agent integer CONSTRAINT usage_agent_not_null NOT NULL,
    model text CONSTRAINT usage_model_not_null NOT NULL,
    worker text,
    input bigint,
    cached_input bigint,
    measured_input bigint,
    measured_cached bigint,
    reasoning bigint,
    output bigint,
    unbilled bigint,
    state text CONSTRAINT usage_state_not_null NOT NULL,
    price_version integer CONSTRAINT usage_price_version_not_null NOT NULL,
    lines jsonb CONSTRAINT usage_lines_not_null NOT NULL,
    amount_nano_usd bigint CONSTRAINT usage_amount_nano_usd_not_null NOT NULL,
    credited_nano_usd bigint CONSTRAINT usage_credited_nano_usd_not_null NOT NULL,
    ended timestamp with time zone CONSTRAINT usage_ended_not_null NOT NULL,
    posted timestamp with time zone DEFAULT now() CONSTRAINT usage_posted_not_null NOT NULL,
    reserve_nano_usd bigint DEFAULT 0 CONSTRAINT usage_reserve_nano_usd_not_null NOT NULL,
    CONSTRAINT usage_amount_nano_usd_check CHECK ((amount_nano_usd >= 0)),
    CONSTRAINT usage_cached_input_check CHECK ((cached_input >= 0)),
    CONSTRAINT usage_check CHECK (((credited_nano_usd >= 0) AND (credited_nano_usd <= amount_nano_usd))),
    CONSTRAINT usage_input_check CHECK ((input >= 0)),
    CONSTRAINT usage_measured_cached_check CHECK ((measured_cached >= 0)),
    CONSTRAINT usage_measured_input_check CHECK ((measured_input >= 0)),
    CONSTRAINT usage_output_check CHECK ((output >= 0)),
    CONSTRAINT usage_reasoning_check CHECK ((reasoning >= 0)),
    CONSTRAINT usage_reserve_nano_usd_check CHECK ((reserve_nano_usd >= 0)),
    CONSTRAINT usage_state_check CHECK ((state = ANY (ARRAY['complete'::text, 'interrupted'::text, 'unknown'::text, 'failed'::text]))),
    CONSTRAINT usage_unbilled_check CHECK ((unbilled >= 0))
);

COMMENT ON TABLE billing.usage_default IS 'A net for months that nobody made a partition for: slower, never lost.';

CREATE TABLE billing.usage_rollup (
    hour timestamp with time zone NOT NULL,
    organization text NOT NULL,
    project text NOT NULL,
    key text NOT NULL,
    mode text NOT NULL,
    model text NOT NULL,
    class text NOT NULL,
    tokens bigint DEFAULT 0 NOT NULL,
    amount_nano_usd bigint DEFAULT 0 NOT NULL,
    credited_nano_usd bigint DEFAULT 0 NOT NULL,
    requests bigint DEFAULT 0 NOT NULL,
    CONSTRAINT usage_rollup_class_check CHECK ((class = ANY (ARRAY['input'::text, 'cached_input'::text, 'reasoning'::text, 'output'::text, 'request'::text])))
);

COMMENT ON TABLE billing.usage_rollup IS 'Sums of billing.usage, written in its transaction. Class request counts requests and what was credited; its tokens are 0.';

CREATE TABLE platform.api_key (
    id text NOT NULL,
    project text NOT NULL,
    name text NOT NULL,
    live boolean NOT NULL,
    scopes text[] DEFAULT '{}'::text[] NOT NULL,
    state text DEFAULT 'active'::text NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    revoked timestamp with time zone,
    last_used timestamp with time zone,
    CONSTRAINT api_key_check CHECK (((state = 'revoked'::text) = (revoked IS NOT NULL))),
    CONSTRAINT api_key_state_check CHECK ((state = ANY (ARRAY['active'::text, 'revoked'::text])))
);

COMMENT ON COLUMN platform.api_key.scopes IS 'Empty means every scope.';

CREATE TABLE platform.api_key_secret (
    sha256 bytea NOT NULL,
    api_key text NOT NULL,
    hint text NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    expires timestamp with time zone,
    CONSTRAINT api_key_secret_sha256_check CHECK ((length(sha256) = 32))
);

COMMENT ON TABLE platform.api_key_secret IS 'Rotation keeps the key''s id: old and new secret are both valid until the old one expires.';

COMMENT ON COLUMN platform.api_key_secret.hint IS 'Prefix and last four characters, to tell secrets apart on a page.';

CREATE TABLE platform.cap (
    scope text NOT NULL,
    scope_id text NOT NULL,
    period text NOT NULL,
    amount_nano_usd bigint NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT cap_amount_nano_usd_check CHECK ((amount_nano_usd >= 0)),
    CONSTRAINT cap_period_check CHECK ((period = ANY (ARRAY['day'::text, 'week'::text, 'month'::text, 'total'::text]))),
    CONSTRAINT cap_scope_check CHECK ((scope = ANY (ARRAY['organization'::text, 'project'::text, 'key'::text])))
);

COMMENT ON TABLE platform.cap IS 'What may be spent in a period (UTC; weeks begin on Monday) by admission time. It stops, exactly.';

CREATE TABLE platform.change (
    id bigint NOT NULL,
    transaction xid8 DEFAULT pg_current_xact_id() NOT NULL,
    kind text NOT NULL,
    subject text NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE platform.change IS 'What changed of what a gateway keeps in memory; pruned after a day.';

ALTER TABLE platform.change ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME platform.change_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE platform.denial (
    scope text NOT NULL,
    scope_id text NOT NULL,
    what text NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT denial_scope_check CHECK ((scope = ANY (ARRAY['organization'::text, 'project'::text, 'key'::text])))
);

COMMENT ON TABLE platform.denial IS 'What somebody is refused though the plan allows it: mode:<mode>, model:<model>.';

CREATE TABLE platform.limiter_generation (
    single boolean DEFAULT true NOT NULL,
    generation bigint NOT NULL,
    server text NOT NULL,
    built boolean DEFAULT false NOT NULL,
    reason text NOT NULL,
    begun timestamp with time zone DEFAULT now() NOT NULL,
    deployment text DEFAULT (gen_random_uuid())::text NOT NULL,
    CONSTRAINT limiter_generation_generation_check CHECK ((generation > 0)),
    CONSTRAINT limiter_generation_single_check CHECK (single)
);

COMMENT ON TABLE platform.limiter_generation IS 'Which counting is in force: another one begins where Redis lost what it had, or may have.';

COMMENT ON COLUMN platform.limiter_generation.built IS 'Every process has told what it knew, and accounts are open.';

COMMENT ON COLUMN platform.limiter_generation.deployment IS 'This database among those that count in the same Redis.';

CREATE TABLE platform.limiter_member (
    journal text NOT NULL,
    generation bigint NOT NULL,
    drained bigint NOT NULL,
    joined timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE platform.limiter_member IS 'The processes that count, by their journals, and up to which record each had drained when it told what it knew.';

CREATE TABLE platform.member (
    organization text NOT NULL,
    person text NOT NULL,
    role text NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT member_role_check CHECK ((role = ANY (ARRAY['owner'::text, 'admin'::text, 'developer'::text, 'billing'::text, 'viewer'::text])))
);

CREATE TABLE platform.migration (
    version integer NOT NULL,
    name text NOT NULL,
    sha256 bytea NOT NULL,
    applied timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE platform.migration IS 'What has been applied; a file may never change afterwards.';

CREATE TABLE platform.organization (
    id text NOT NULL,
    name text NOT NULL,
    plan text NOT NULL,
    state text DEFAULT 'active'::text NOT NULL,
    allowance_nano_usd bigint DEFAULT 0 NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT organization_allowance_nano_usd_check CHECK ((allowance_nano_usd >= 0)),
    CONSTRAINT organization_state_check CHECK ((state = ANY (ARRAY['active'::text, 'suspended'::text])))
);

COMMENT ON COLUMN platform.organization.allowance_nano_usd IS 'How far the balance may go below zero.';

CREATE TABLE platform.person (
    id text NOT NULL,
    email text NOT NULL,
    name text DEFAULT ''::text NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT person_email_check CHECK ((email = lower(email)))
);

CREATE TABLE platform.plan (
    id text NOT NULL,
    limits jsonb NOT NULL,
    entitlements jsonb DEFAULT '{}'::jsonb NOT NULL,
    created timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE platform.plan IS 'Limits (museway_platform/limits/policy.py) and entitlements that come with a plan.';

CREATE TABLE platform.project (
    id text NOT NULL,
    organization text NOT NULL,
    name text NOT NULL,
    state text DEFAULT 'active'::text NOT NULL,
    default_mode text,
    created timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT project_default_mode_check CHECK ((default_mode = ANY (ARRAY['instant'::text, 'thinking'::text, 'contemplating'::text, 'auto'::text]))),
    CONSTRAINT project_state_check CHECK ((state = ANY (ARRAY['active'::text, 'archived'::text])))
);

CREATE TABLE platform.rate_limit (
    scope text NOT NULL,
    scope_id text NOT NULL,
    metric text NOT NULL,
    mode text DEFAULT ''::text NOT NULL,
    capacity bigint NOT NULL,
    refill bigint DEFAULT 0 NOT NULL,
    window_s integer DEFAULT 60 NOT NULL,
    CONSTRAINT rate_limit_capacity_check CHECK ((capacity >= 0)),
    CONSTRAINT rate_limit_metric_check CHECK ((metric = ANY (ARRAY['requests'::text, 'input_tokens'::text, 'output_tokens'::text, 'concurrent_requests'::text]))),
    CONSTRAINT rate_limit_mode_check CHECK ((mode = ANY (ARRAY[''::text, 'instant'::text, 'thinking'::text, 'contemplating'::text, 'auto'::text]))),
    CONSTRAINT rate_limit_refill_check CHECK ((refill >= 0)),
    CONSTRAINT rate_limit_scope_check CHECK ((scope = ANY (ARRAY['organization'::text, 'project'::text, 'key'::text]))),
    CONSTRAINT rate_limit_window_s_check CHECK ((window_s > 0))
);

COMMENT ON TABLE platform.rate_limit IS 'A bucket of `capacity` that gets `refill` back per `window_s`; overrides the plan''s limit of the same metric and mode.';

COMMENT ON COLUMN platform.rate_limit.mode IS 'Empty: all modes together.';

CREATE TABLE platform.refused_request (
    request_id text NOT NULL,
    organization text NOT NULL,
    project text NOT NULL,
    key text NOT NULL,
    mode text NOT NULL,
    code text NOT NULL,
    scope text NOT NULL,
    scope_id text NOT NULL,
    metric text NOT NULL,
    limit_mode text,
    "limit" bigint NOT NULL,
    used bigint NOT NULL,
    held bigint NOT NULL,
    asked bigint NOT NULL,
    retry_after_s double precision,
    holders jsonb NOT NULL,
    times integer NOT NULL,
    created timestamp with time zone NOT NULL,
    CONSTRAINT refused_request_scope_check CHECK ((scope = ANY (ARRAY['organization'::text, 'project'::text, 'key'::text]))),
    CONSTRAINT refused_request_times_check CHECK ((times > 0))
);

COMMENT ON TABLE platform.refused_request IS 'Refusals by a limit, a cap or the credit; pruned after 30 days. `times`: how many of the same kind within a second this row, the first, stands for.';

COMMENT ON COLUMN platform.refused_request.holders IS 'Who held most of the limit''s scope at that moment: [{"key", "requests", "amount_nano_usd", "output_tokens"}].';

ALTER TABLE ONLY billing.usage ATTACH PARTITION billing.usage_default DEFAULT;

ALTER TABLE ONLY billing.account
    ADD CONSTRAINT account_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.adjustment
    ADD CONSTRAINT adjustment_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.journal
    ADD CONSTRAINT journal_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.money_in
    ADD CONSTRAINT money_in_pkey PRIMARY KEY (organization, sequence);

ALTER TABLE ONLY billing.money_in
    ADD CONSTRAINT money_in_transfer_key UNIQUE (transfer);

ALTER TABLE ONLY billing.outbox
    ADD CONSTRAINT outbox_identifier_key UNIQUE (identifier);

ALTER TABLE ONLY billing.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.price
    ADD CONSTRAINT price_pkey PRIMARY KEY (version, model, mode);

ALTER TABLE ONLY billing.price_version
    ADD CONSTRAINT price_version_pkey PRIMARY KEY (version);

ALTER TABLE ONLY billing.receipt
    ADD CONSTRAINT receipt_pkey PRIMARY KEY (request_id, number);

ALTER TABLE ONLY billing.transfer
    ADD CONSTRAINT transfer_pkey PRIMARY KEY (id);

ALTER TABLE ONLY billing.usage
    ADD CONSTRAINT usage_pkey PRIMARY KEY (created, id);

ALTER TABLE ONLY billing.usage_default
    ADD CONSTRAINT usage_default_pkey PRIMARY KEY (created, id);

ALTER TABLE ONLY billing.usage_rollup
    ADD CONSTRAINT usage_rollup_pkey PRIMARY KEY (organization, hour, project, key, mode, model, class);

ALTER TABLE ONLY platform.api_key
    ADD CONSTRAINT api_key_pkey PRIMARY KEY (id);

ALTER TABLE ONLY platform.api_key_secret
    ADD CONSTRAINT api_key_secret_pkey PRIMARY KEY (sha256);

ALTER TABLE ONLY platform.cap
    ADD CONSTRAINT cap_pkey PRIMARY KEY (scope, scope_id, period);

ALTER TABLE ONLY platform.change
    ADD CONSTRAINT change_pkey PRIMARY KEY (id);

ALTER TABLE ONLY platform.denial
    ADD CONSTRAINT denial_pkey PRIMARY KEY (scope, scope_id, what);

ALTER TABLE ONLY platform.limiter_generation
    ADD CONSTRAINT limiter_generation_pkey PRIMARY KEY (single);

ALTER TABLE ONLY platform.limiter_member
    ADD CONSTRAINT limiter_member_pkey PRIMARY KEY (journal);

ALTER TABLE ONLY platform.member
    ADD CONSTRAINT member_pkey PRIMARY KEY (organization, person);

ALTER TABLE ONLY platform.migration
    ADD CONSTRAINT migration_pkey PRIMARY KEY (version);

ALTER TABLE ONLY platform.organization
    ADD CONSTRAINT organization_pkey PRIMARY KEY (id);

ALTER TABLE ONLY platform.person
    ADD CONSTRAINT person_email_key UNIQUE (email);

ALTER TABLE ONLY platform.person
    ADD CONSTRAINT person_pkey PRIMARY KEY (id);

ALTER TABLE ONLY platform.plan
    ADD CONSTRAINT plan_pkey PRIMARY KEY (id);

ALTER TABLE ONLY platform.project
    ADD CONSTRAINT project_organization_name_key UNIQUE (organization, name);

ALTER TABLE ONLY platform.project
    ADD CONSTRAINT project_pkey PRIMARY KEY (id);

ALTER TABLE ONLY platform.rate_limit
    ADD CONSTRAINT rate_limit_pkey PRIMARY KEY (scope, scope_id, metric, mode);

ALTER TABLE ONLY platform.refused_request
    ADD CONSTRAINT refused_request_pkey PRIMARY KEY (organization, created, request_id);

CREATE INDEX account_organization ON billing.account USING btree (organization, kind);

CREATE INDEX adjustment_organization ON billing.adjustment USING btree (organization, created);

CREATE INDEX money_in_transaction ON billing.money_in USING btree (transaction);

CREATE INDEX outbox_open ON billing.outbox USING btree (organization, id) WHERE (state <> 'acknowledged'::text);

CREATE INDEX transfer_organization ON billing.transfer USING btree (organization, posted, id);

CREATE UNIQUE INDEX transfer_pending ON billing.transfer USING btree (pending) WHERE (pending IS NOT NULL);

CREATE INDEX transfer_reserve ON billing.transfer USING btree (organization) WHERE ((kind = 'unknown'::text) AND (phase = 'pending'::text));

CREATE INDEX transfer_source ON billing.transfer USING btree (source);

CREATE INDEX usage_organization ON ONLY billing.usage USING btree (organization, created, id);

CREATE INDEX usage_default_organization_created_id_idx ON billing.usage_default USING btree (organization, created, id);

CREATE INDEX usage_posted ON ONLY billing.usage USING btree (organization, posted);

CREATE INDEX usage_default_organization_posted_idx ON billing.usage_default USING btree (organization, posted);

CREATE INDEX usage_request ON ONLY billing.usage USING btree (request_id);

CREATE INDEX usage_default_request_id_idx ON billing.usage_default USING btree (request_id);

CREATE INDEX api_key_project ON platform.api_key USING btree (project);

CREATE INDEX api_key_secret_api_key ON platform.api_key_secret USING btree (api_key);

CREATE INDEX change_transaction ON platform.change USING btree (transaction);

CREATE INDEX refused_request_created ON platform.refused_request USING btree (created);

ALTER INDEX billing.usage_organization ATTACH PARTITION billing.usage_default_organization_created_id_idx;

ALTER INDEX billing.usage_posted ATTACH PARTITION billing.usage_default_organization_posted_idx;

ALTER INDEX billing.usage_pkey ATTACH PARTITION billing.usage_default_pkey;

ALTER INDEX billing.usage_request ATTACH PARTITION billing.usage_default_request_id_idx;

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE ON billing.adjustment FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE ON billing.money_in FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE ON billing.price FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE ON billing.price_version FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE ON billing.receipt FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE ON billing.transfer FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE ON billing.usage FOR EACH ROW EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER no_truncate BEFORE TRUNCATE ON billing.adjustment FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER no_truncate BEFORE TRUNCATE ON billing.money_in FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER no_truncate BEFORE TRUNCATE ON billing.price FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER no_truncate BEFORE TRUNCATE ON billing.price_version FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER no_truncate BEFORE TRUNCATE ON billing.receipt FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER no_truncate BEFORE TRUNCATE ON billing.transfer FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER no_truncate BEFORE TRUNCATE ON billing.usage FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_change();

CREATE TRIGGER announce AFTER INSERT OR DELETE OR UPDATE OF project, live, scopes, state ON platform.api_key FOR EACH ROW EXECUTE FUNCTION platform.announce('key', 'id');

CREATE TRIGGER announce AFTER INSERT OR DELETE OR UPDATE ON platform.api_key_secret FOR EACH ROW EXECUTE FUNCTION platform.announce('key', 'api_key');

CREATE TRIGGER announce AFTER INSERT OR DELETE OR UPDATE ON platform.cap FOR EACH ROW EXECUTE FUNCTION platform.announce('limits', 'scope_id');

CREATE TRIGGER announce AFTER INSERT OR DELETE OR UPDATE ON platform.denial FOR EACH ROW EXECUTE FUNCTION platform.announce('limits', 'scope_id');

CREATE TRIGGER announce AFTER INSERT OR DELETE OR UPDATE ON platform.organization FOR EACH ROW EXECUTE FUNCTION platform.announce('organization', 'id');

CREATE TRIGGER announce AFTER INSERT OR DELETE OR UPDATE ON platform.plan FOR EACH ROW EXECUTE FUNCTION platform.announce('plan', 'id');

CREATE TRIGGER announce AFTER INSERT OR DELETE OR UPDATE ON platform.project FOR EACH ROW EXECUTE FUNCTION platform.announce('project', 'id');

CREATE TRIGGER announce AFTER INSERT OR DELETE OR UPDATE ON platform.rate_limit FOR EACH ROW EXECUTE FUNCTION platform.announce('limits', 'scope_id');

ALTER TABLE ONLY billing.money_in
    ADD CONSTRAINT money_in_transfer_fkey FOREIGN KEY (transfer) REFERENCES billing.transfer(id);

ALTER TABLE ONLY billing.price
    ADD CONSTRAINT price_version_fkey FOREIGN KEY (version) REFERENCES billing.price_version(version);

ALTER TABLE ONLY billing.transfer
    ADD CONSTRAINT transfer_credit_fkey FOREIGN KEY (credit) REFERENCES billing.account(id);

ALTER TABLE ONLY billing.transfer
    ADD CONSTRAINT transfer_debit_fkey FOREIGN KEY (debit) REFERENCES billing.account(id);

ALTER TABLE ONLY billing.transfer
    ADD CONSTRAINT transfer_pending_fkey FOREIGN KEY (pending) REFERENCES billing.transfer(id);

ALTER TABLE ONLY platform.api_key
    ADD CONSTRAINT api_key_project_fkey FOREIGN KEY (project) REFERENCES platform.project(id);

ALTER TABLE ONLY platform.api_key_secret
    ADD CONSTRAINT api_key_secret_api_key_fkey FOREIGN KEY (api_key) REFERENCES platform.api_key(id);

ALTER TABLE ONLY platform.member
    ADD CONSTRAINT member_organization_fkey FOREIGN KEY (organization) REFERENCES platform.organization(id);

ALTER TABLE ONLY platform.member
    ADD CONSTRAINT member_person_fkey FOREIGN KEY (person) REFERENCES platform.person(id);

ALTER TABLE ONLY platform.organization
    ADD CONSTRAINT organization_plan_fkey FOREIGN KEY (plan) REFERENCES platform.plan(id);

ALTER TABLE ONLY platform.project
    ADD CONSTRAINT project_organization_fkey FOREIGN KEY (organization) REFERENCES platform.organization(id);

