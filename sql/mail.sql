-- The outbox: mails that wait, and whoever delivers them.
--
-- A mail is claimed for a while (the lease), in a transaction that commits; then it is
-- sent; then what became of it is recorded.  Whoever dies in between leaves a claim
-- that ends by itself, and the mail is sent again, with the same Message-ID: at least
-- once.  A mail that was recorded as sent is never claimed again.
--
-- A dump carries what waits into a database with another id, beside the one that has
-- queued it: only that one sends it, until somebody says that the copy takes over.

CREATE FUNCTION leyser.queue_mails(notice_id bigint, number integer) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    notice leyser.notice_record := (SELECT n FROM leyser.notice_record n WHERE n.notice_id = queue_mails.notice_id);
    audience leyser.notice_audience := leyser.present_audience(notice.severity);
    -- fixed now: a mail keeps its id, whatever the sender becomes
    domain text := coalesce(split_part((leyser.present_notice_policy()).mail_sender, '@', 2),
                            (SELECT i.database_id || '.invalid' FROM leyser.identity i));
    mails bigint;
BEGIN
    INSERT INTO leyser.mail_record (notice_id, number, language, tenant_id, contact_id, address, message_id, database_id, give_up_at)
        SELECT DISTINCT ON (c.tenant_id, lower(c.address)) queue_mails.notice_id, queue_mails.number,
               (SELECT t.language FROM leyser.notice_text t WHERE t.notice_id = queue_mails.notice_id AND t.number = queue_mails.number
                ORDER BY t.language <> c.language, t.language LIMIT 1),
               c.tenant_id, c.contact_id, c.address, format('%s@%s', gen_random_uuid(), domain), i.database_id, clock_timestamp() + interval '72 hours'
        FROM leyser.contact_record c
        CROSS JOIN leyser.identity i
        CROSS JOIN LATERAL (SELECT CASE c.kind WHEN 'contract_holder' THEN audience.contract_holders ELSE audience.extra_contacts END) w (wanted)
        LEFT JOIN leyser.tenant_record t ON t.tenant_id = c.tenant_id
        LEFT JOIN leyser.notice_tenant a ON a.tenant_id = c.tenant_id AND a.notice_id = queue_mails.notice_id
        LEFT JOIN (SELECT DISTINCT coalesce(m.tenant_id, ''), lower(m.address) FROM leyser.mail_record m
                   WHERE m.notice_id = queue_mails.notice_id) told (tenant_id, address)
            ON told.tenant_id = coalesce(c.tenant_id, '') AND told.address = lower(c.address)
        WHERE CASE WHEN c.tenant_id IS NULL THEN w.wanted <> 'none' OR told.address IS NOT NULL
                   WHEN t.state NOT IN ('active', 'suspended', 'terminating') OR t.ends_at <= clock_timestamp() THEN false
                   WHEN notice.everybody OR a.tenant_id IS NOT NULL THEN w.wanted <> 'none' OR told.address IS NOT NULL
                   -- no mail says what its tenant does not read
                   ELSE notice.published AND (w.wanted = 'all' OR told.address IS NOT NULL)
              END
        ORDER BY c.tenant_id, lower(c.address), c.contact_id;
    GET DIAGNOSTICS mails = ROW_COUNT;
    IF mails > 0 THEN
        -- wakes outside workers, and says nothing: everybody may listen
        PERFORM pg_notify('leyser_mail', '');
    END IF;
    RETURN mails;
END
$$;
REVOKE ALL ON FUNCTION leyser.queue_mails(bigint, integer) FROM PUBLIC;
COMMENT ON FUNCTION leyser.queue_mails(bigint, integer) IS
    'internal: queues a mail for each contact that is in the audience of a notice''s severity, or had mail of it before, an address once for each tenant, and returns how many; only affected tenants'', where it is not published';

-- ---- claims ----

CREATE FUNCTION leyser.mail_is_due() RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN coalesce((SELECT m.next_attempt_at <= clock_timestamp() FROM leyser.mail_record m
                     WHERE m.state = 'waiting' ORDER BY m.next_attempt_at LIMIT 1), false);
END
$$;
REVOKE ALL ON FUNCTION leyser.mail_is_due() FROM PUBLIC;
COMMENT ON FUNCTION leyser.mail_is_due() IS 'internal: whether a mail waits to be tried';

CREATE FUNCTION leyser.bury_mail(mail leyser.mail_record, error text) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE leyser.mail_record m SET state = 'dead', ended_at = clock_timestamp(), claim = NULL, last_error = error
        WHERE m.mail_id = mail.mail_id;
    PERFORM leyser.record_event('mail.given_up', mail.tenant_id, mail.mail_id::text,
        jsonb_build_object('notice_id', mail.notice_id, 'number', mail.number, 'attempts', mail.attempts));
END
$$;
REVOKE ALL ON FUNCTION leyser.bury_mail(leyser.mail_record, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.bury_mail(leyser.mail_record, text) IS 'internal: a mail becomes a dead letter, which is an event';

CREATE FUNCTION leyser.mail_is_hopeless(mail leyser.mail_record) RETURNS boolean
    LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT mail.attempts >= 10 AND mail.give_up_at <= clock_timestamp() $$;
REVOKE ALL ON FUNCTION leyser.mail_is_hopeless(leyser.mail_record) FROM PUBLIC;
COMMENT ON FUNCTION leyser.mail_is_hopeless(leyser.mail_record) IS
    'internal: whether a mail was tried for three days, ten times at least';

-- All at once: a copy of a full outbox is not gone through again for each.
CREATE FUNCTION leyser.bury_copied_mails(here uuid) RETURNS void
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM leyser.bury_mail(c.mail, 'This database is a copy of the one that queued the mail and sends it. leyser.retry_mail() takes it over.')
    FROM (SELECT m AS mail FROM leyser.mail_record m
          WHERE m.state = 'waiting' AND m.database_id <> here FOR UPDATE SKIP LOCKED) c;
END
$$;
REVOKE ALL ON FUNCTION leyser.bury_copied_mails(uuid) FROM PUBLIC;
COMMENT ON FUNCTION leyser.bury_copied_mails(uuid) IS
    'internal: mails that wait and were queued by another database than this become dead letters';

-- Two that claim at once skip each other's rows.
CREATE FUNCTION leyser.claim_next_mail(lease interval, worker text) RETURNS leyser.mail_record
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mail leyser.mail_record;
    here uuid := (SELECT i.database_id FROM leyser.identity i);
    present timestamptz := clock_timestamp();  -- a volatile function would read what is not due, too
BEGIN
    LOOP
        SELECT m.* INTO mail FROM leyser.mail_record m
            WHERE m.state = 'waiting' AND m.next_attempt_at <= present
            ORDER BY m.next_attempt_at, m.mail_id LIMIT 1 FOR UPDATE SKIP LOCKED;
        IF mail.mail_id IS NULL THEN
            RETURN NULL;
        ELSIF mail.database_id <> here THEN
            PERFORM leyser.bury_copied_mails(here);
        ELSIF leyser.contract_has_ended(mail.tenant_id) THEN
            UPDATE leyser.mail_record m SET state = 'cancelled', ended_at = clock_timestamp(), claim = NULL WHERE m.mail_id = mail.mail_id;
        ELSIF leyser.mail_is_hopeless(mail) THEN
            PERFORM leyser.bury_mail(mail, coalesce(mail.last_error, 'It was claimed again and again, and nobody recorded what became of it.'));
        ELSE
            INSERT INTO leyser.mail_attempt (mail_id, tenant_id, claimed_by, lease_until)
                VALUES (mail.mail_id, mail.tenant_id, worker, clock_timestamp() + lease)
                RETURNING claim, lease_until INTO mail.claim, mail.next_attempt_at;
            mail.attempts := mail.attempts + 1;
            UPDATE leyser.mail_record m SET claim = mail.claim, next_attempt_at = mail.next_attempt_at, attempts = mail.attempts
                WHERE m.mail_id = mail.mail_id;
            RETURN mail;
        END IF;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION leyser.claim_next_mail(interval, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.claim_next_mail(interval, text) IS
    'internal: claims the mail that is due longest, for so long, or returns NULL; worker NULL: leyser.mail_command';

CREATE FUNCTION leyser.claim_mail(max_mails integer DEFAULT 10, lease interval DEFAULT '5 minutes')
    RETURNS TABLE (claim uuid, mail_id bigint, message_id text, sender text, recipient text, attempt integer, message text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    policy leyser.notice_policy := leyser.present_notice_policy();
    worker text := leyser.caller()::text;
    mail leyser.mail_record;
    bytes bigint := 0;
    claimed integer := 0;
BEGIN
    PERFORM leyser.check_claim(max_mails, lease, policy);
    WHILE claimed < max_mails AND bytes < 16 * 1024 * 1024 LOOP
        mail := leyser.claim_next_mail(lease, worker);
        EXIT WHEN mail.mail_id IS NULL;
        claim_mail.claim := mail.claim;
        claim_mail.mail_id := mail.mail_id;
        claim_mail.message_id := mail.message_id;
        claim_mail.sender := policy.mail_sender;
        claim_mail.recipient := mail.address;
        claim_mail.attempt := mail.attempts;
        claim_mail.message := leyser.mail_message(mail, policy);
        claimed := claimed + 1;
        bytes := bytes + octet_length(claim_mail.message);
        RETURN NEXT;
    END LOOP;
    IF claimed > 0 THEN
        PERFORM leyser.record_event('mail.claimed', NULL, NULL, jsonb_build_object('mails', claimed));
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.claim_mail(integer, interval) FROM PUBLIC;
COMMENT ON FUNCTION leyser.claim_mail(integer, interval) IS
    'mailer: claims up to so many mails (1 to 1000; no further ones after 16 MB) that nobody else has claimed, for the time of the lease (1 second to 1 day): commit, send each, and call complete_mail() or fail_mail() with its claim; who does neither has them given back when the lease ends; message is ASCII with CRLF line ends, as SMTP has it; 22023 for another number or lease, LY008 where no sender is set or a restore waits to be released';

CREATE FUNCTION leyser.check_claim(max_mails integer, lease interval, policy leyser.notice_policy) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF (max_mails BETWEEN 1 AND 1000) IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid max_mails', DETAIL = 'It is 1 to 1000.', HINT = 'Leave it out to get 10.';
    ELSIF (lease BETWEEN interval '1 second' AND interval '1 day') IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
            MESSAGE = 'invalid lease', DETAIL = 'It is 1 second to 1 day.', HINT = 'Leave it out to get 5 minutes.';
    ELSIF policy.mail_sender IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'no sender of mail is set', DETAIL = 'Nothing is sent without one; what waits stays.',
            HINT = 'leyser.set_notice_policy(mail_sender => …).';
    ELSIF leyser.restore_is_held() THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'a restore was noticed', DETAIL = 'What waits may have been sent since the backup was taken.',
            HINT = 'See "After a restore" in the README.';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.check_claim(integer, interval, leyser.notice_policy) FROM PUBLIC;
COMMENT ON FUNCTION leyser.check_claim(integer, interval, leyser.notice_policy) IS
    'internal: 22023 or LY008 where no mail can be claimed';
