-- Tables of notices and of the mail that they cause.
--
-- Nobody has rights on them, as on all of leyser's tables.  What was said is never
-- changed: an update is another row, so a mail reads the same however often it is tried.

-- Without a row, what present_notice_policy() says.
CREATE TABLE leyser.notice_policy (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    lead_time interval NOT NULL,
    mail_sender text,                   -- the address in From, and of the envelope
    service_name text                   -- the name beside it, and the feed's title
);
COMMENT ON TABLE leyser.notice_policy IS 'how long before upgrades and maintenance people are told, and in whose name';

CREATE TABLE leyser.notice_audience (
    severity text COLLATE "C" PRIMARY KEY CHECK (severity IN ('critical', 'high', 'medium', 'low')),
    contract_holders text NOT NULL CHECK (contract_holders IN ('none', 'affected', 'all')),
    extra_contacts text NOT NULL CHECK (extra_contacts IN ('none', 'affected', 'all'))
);
COMMENT ON TABLE leyser.notice_audience IS 'who gets mail, by severity, where it is not as at first';

CREATE TABLE leyser.notice_record (
    notice_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('upgrade', 'maintenance', 'incident')),
    severity text NOT NULL CHECK (severity IN ('critical', 'high', 'medium', 'low')),
    starts_at timestamptz NOT NULL,
    ends_at timestamptz CHECK (ends_at > starts_at),
    ended_at timestamptz,
    published boolean NOT NULL,
    everybody boolean NOT NULL,         -- no affected tenants are named
    changes integer NOT NULL DEFAULT 0, -- the number of the last one
    announced_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    announced_by text NOT NULL          -- the role
);
COMMENT ON TABLE leyser.notice_record IS 'upgrades, maintenance and incidents, as they were last told';

CREATE TABLE leyser.notice_change (
    notice_id bigint NOT NULL REFERENCES leyser.notice_record,
    number integer NOT NULL,            -- 0: the announcement
    change text NOT NULL CHECK (change IN ('announced', 'updated', 'ended')),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_by text NOT NULL,
    severity text NOT NULL,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz,
    short_notice_reason text,           -- told later than the policy's lead time
    lead_time interval NOT NULL,        -- the policy's at that time
    PRIMARY KEY (notice_id, number)
);
COMMENT ON TABLE leyser.notice_change IS 'what was told about a notice, step by step';
CREATE INDEX notice_change_at ON leyser.notice_change (at, notice_id, number);
COMMENT ON INDEX leyser.notice_change_at IS 'the newest, for the feed';

CREATE TABLE leyser.notice_text (
    notice_id bigint NOT NULL,
    number integer NOT NULL,
    language text COLLATE "C" NOT NULL CHECK (language IN ('en', 'ja')),
    subject text NOT NULL,
    body text NOT NULL,
    PRIMARY KEY (notice_id, number, language),
    FOREIGN KEY (notice_id, number) REFERENCES leyser.notice_change
);
COMMENT ON TABLE leyser.notice_text IS 'the words of each change, by language';

CREATE TABLE leyser.notice_tenant (
    notice_id bigint NOT NULL REFERENCES leyser.notice_record,
    tenant_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant_id, notice_id)
);
COMMENT ON TABLE leyser.notice_tenant IS 'the tenants that a notice affects, where it names some';
CREATE INDEX notice_tenant_notice ON leyser.notice_tenant (notice_id);
COMMENT ON INDEX leyser.notice_tenant_notice IS 'the tenants of a notice';

CREATE TABLE leyser.contact_record (
    contact_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text COLLATE "C" REFERENCES leyser.tenant_record, -- NULL: the provider's own
    kind text NOT NULL CHECK (kind IN ('contract_holder', 'extra')),
    address text COLLATE "C" NOT NULL,
    language text COLLATE "C" NOT NULL CHECK (language IN ('en', 'ja')),
    added_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    added_by text NOT NULL,
    CHECK (tenant_id IS NOT NULL OR kind = 'extra')
);
COMMENT ON TABLE leyser.contact_record IS 'who is told by mail';
CREATE UNIQUE INDEX contact_record_address ON leyser.contact_record ((coalesce(tenant_id, '')), kind, (lower(address)));
COMMENT ON INDEX leyser.contact_record_address IS 'an address once for each tenant and kind';

-- One mail to one recipient: nobody sees who else was told.
CREATE TABLE leyser.mail_record (
    mail_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    notice_id bigint NOT NULL,
    number integer NOT NULL,
    language text COLLATE "C" NOT NULL,
    tenant_id text COLLATE "C",
    contact_id bigint NOT NULL,         -- which may have been removed since
    address text COLLATE "C" NOT NULL,
    message_id text NOT NULL,           -- the same however often it is tried
    database_id uuid NOT NULL,          -- the one that queued it, or took it over, and sends it
    queued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'dead', 'cancelled')),
    next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(), -- or the end of a claim
    claim uuid,                         -- somebody is at it
    attempts integer NOT NULL DEFAULT 0,  -- since give_up_at was set
    give_up_at timestamptz NOT NULL,
    ended_at timestamptz,
    last_error text,
    CHECK ((state = 'waiting') = (ended_at IS NULL)),
    FOREIGN KEY (notice_id, number, language) REFERENCES leyser.notice_text
);
COMMENT ON TABLE leyser.mail_record IS 'the outbox: mails that wait, and what became of the others';
CREATE INDEX mail_record_waiting ON leyser.mail_record (next_attempt_at, mail_id) WHERE state = 'waiting';
COMMENT ON INDEX leyser.mail_record_waiting IS 'the mails that are due';
CREATE INDEX mail_record_notice ON leyser.mail_record (notice_id, number);
COMMENT ON INDEX leyser.mail_record_notice IS 'the mails of a notice';
CREATE INDEX mail_record_tenant ON leyser.mail_record (tenant_id);
COMMENT ON INDEX leyser.mail_record_tenant IS 'the mails of a tenant, which a purge erases';
CREATE INDEX mail_record_dead ON leyser.mail_record (ended_at) WHERE state = 'dead';
COMMENT ON INDEX leyser.mail_record_dead IS 'the dead letters, which are an alert';
CREATE INDEX mail_record_contact ON leyser.mail_record (contact_id) WHERE state IN ('waiting', 'dead');
COMMENT ON INDEX leyser.mail_record_contact IS 'what waits for a contact that is removed';

CREATE TABLE leyser.mail_attempt (
    claim uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    mail_id bigint NOT NULL REFERENCES leyser.mail_record,
    tenant_id text COLLATE "C",         -- the mail's
    claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    claimed_by text,                    -- the worker's role; NULL: leyser.mail_command
    lease_until timestamptz NOT NULL,
    outcome text CHECK (outcome IN ('sent', 'deferred', 'refused')),
    ended_at timestamptz,
    detail text,
    CHECK ((outcome IS NULL) = (ended_at IS NULL))
);
COMMENT ON TABLE leyser.mail_attempt IS 'each attempt to deliver a mail, and how it ended';
CREATE INDEX mail_attempt_mail ON leyser.mail_attempt (mail_id);
COMMENT ON INDEX leyser.mail_attempt_mail IS 'the attempts of a mail';
CREATE INDEX mail_attempt_tenant ON leyser.mail_attempt (tenant_id);
COMMENT ON INDEX leyser.mail_attempt_tenant IS 'the attempts of a tenant''s mails, which a purge erases';
CREATE INDEX mail_attempt_claimed ON leyser.mail_attempt (claimed_at);
COMMENT ON INDEX leyser.mail_attempt_claimed IS 'the attempts of a run of the job';

SELECT pg_catalog.pg_extension_config_dump('leyser.notice_policy', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.notice_audience', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.notice_record', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.notice_record_notice_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.notice_change', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.notice_text', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.notice_tenant', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.contact_record', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.contact_record_contact_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.mail_record', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.mail_record_mail_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('leyser.mail_attempt', '');
