-- What the migrations produce, as `pg_dump --schema-only` says it. Generated, never edited:
-- python -m museway_platform.database.migrate --write
-- Monthly partitions are left out: which ones exist depends on the day.


CREATE SCHEMA platform;

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

CREATE INDEX api_key_project ON platform.api_key USING btree (project);

CREATE INDEX api_key_secret_api_key ON platform.api_key_secret USING btree (api_key);

CREATE INDEX change_transaction ON platform.change USING btree (transaction);

CREATE TRIGGER announce AFTER INSERT OR DELETE OR UPDATE OF project, live, scopes, state ON platform.api_key FOR EACH ROW EXECUTE FUNCTION platform.announce('key', 'id');

CREATE TRIGGER announce AFTER INSERT OR DELETE OR UPDATE ON platform.api_key_secret FOR EACH ROW EXECUTE FUNCTION platform.announce('key', 'api_key');

CREATE TRIGGER announce AFTER INSERT OR DELETE OR UPDATE ON platform.cap FOR EACH ROW EXECUTE FUNCTION platform.announce('limits', 'scope_id');

CREATE TRIGGER announce AFTER INSERT OR DELETE OR UPDATE ON platform.denial FOR EACH ROW EXECUTE FUNCTION platform.announce('limits', 'scope_id');

CREATE TRIGGER announce AFTER INSERT OR DELETE OR UPDATE ON platform.organization FOR EACH ROW EXECUTE FUNCTION platform.announce('organization', 'id');

CREATE TRIGGER announce AFTER INSERT OR DELETE OR UPDATE ON platform.plan FOR EACH ROW EXECUTE FUNCTION platform.announce('plan', 'id');

CREATE TRIGGER announce AFTER INSERT OR DELETE OR UPDATE ON platform.project FOR EACH ROW EXECUTE FUNCTION platform.announce('project', 'id');

CREATE TRIGGER announce AFTER INSERT OR DELETE OR UPDATE ON platform.rate_limit FOR EACH ROW EXECUTE FUNCTION platform.announce('limits', 'scope_id');

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

