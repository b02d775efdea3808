-- What became of mails: sent, tried again later each time, or given up.

-- A server's answer often quotes the address, as it spells it: the domain in small
-- letters, or all of it.  It may hold whatever the server likes to show on a terminal.
CREATE FUNCTION leyser.mask_address(detail text, address text) RETURNS text
    LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on
AS $$
    SELECT left(regexp_replace(btrim(regexp_replace(detail, '[\x01-\x1f\x7f-\x9f\u2028\u2029]', ' ', 'g')),
                               '***=' || address, '<recipient>', 'gi'), 1000)
$$;
REVOKE ALL ON FUNCTION leyser.mask_address(text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.mask_address(text, text) IS
    'internal: an answer in one line, without the recipient''s address in whatever case';

-- An attempt that another has followed by now changes the mail only where it was sent.
CREATE FUNCTION leyser.end_attempt(claim uuid, outcome text, detail text) RETURNS boolean
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    mail leyser.mail_record;
    told text;
BEGIN
    -- the mail first, as whoever claims it
    SELECT m.* INTO mail FROM leyser.mail_record m JOIN leyser.mail_attempt a ON a.mail_id = m.mail_id
        WHERE a.claim = end_attempt.claim FOR UPDATE OF m;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_object',
            MESSAGE = 'claim does not exist', DETAIL = 'No mail was claimed with it, or the mail is erased.',
            HINT = 'See leyser.claim_mail().';
    END IF;
    told := nullif(leyser.mask_address(end_attempt.detail, mail.address), '');
    UPDATE leyser.mail_attempt a SET outcome = end_attempt.outcome, ended_at = clock_timestamp(), detail = told
        WHERE a.claim = end_attempt.claim AND a.outcome IS NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF end_attempt.outcome = 'sent' THEN
        UPDATE leyser.mail_record m SET state = 'sent', ended_at = coalesce(m.ended_at, clock_timestamp()), claim = NULL, last_error = NULL
            WHERE m.mail_id = mail.mail_id AND m.state <> 'sent';
    ELSIF mail.state = 'waiting' AND mail.claim = end_attempt.claim THEN
        IF end_attempt.outcome = 'refused' OR leyser.mail_is_hopeless(mail) THEN
            PERFORM leyser.bury_mail(mail, told);
        ELSE
            UPDATE leyser.mail_record m SET claim = NULL, last_error = told,
                    next_attempt_at = clock_timestamp() + leyser.retry_delay(mail.attempts)
                WHERE m.mail_id = mail.mail_id;
        END IF;
    END IF;
    RETURN true;
END
$$;
REVOKE ALL ON FUNCTION leyser.end_attempt(uuid, text, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.end_attempt(uuid, text, text) IS
    'internal: records how an attempt ended (sent, deferred, refused), once; false where that was recorded; 42704 for an unknown claim';

CREATE FUNCTION leyser.complete_mail(claim uuid, detail text DEFAULT NULL) RETURNS boolean
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT leyser.end_attempt(complete_mail.claim, 'sent', complete_mail.detail) $$;
REVOKE ALL ON FUNCTION leyser.complete_mail(uuid, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.complete_mail(uuid, text) IS
    'mailer: the mail of this claim was accepted by a server (whose answer is the detail): it is never sent again, also where the lease had ended; false where the end of this attempt was recorded before; 42704 for an unknown claim';

CREATE FUNCTION leyser.fail_mail(claim uuid, error text, permanent boolean DEFAULT false) RETURNS boolean
    LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT leyser.end_attempt(fail_mail.claim, CASE WHEN fail_mail.permanent THEN 'refused' ELSE 'deferred' END, fail_mail.error) $$;
REVOKE ALL ON FUNCTION leyser.fail_mail(uuid, text, boolean) FROM PUBLIC;
COMMENT ON FUNCTION leyser.fail_mail(uuid, text, boolean) IS
    'mailer: the mail of this claim was not accepted: it is tried again, after a minute and later each time, or becomes a dead letter (permanent, or after three days and ten attempts); false where the end of this attempt was recorded before; 42704 for an unknown claim';

CREATE FUNCTION leyser.retry_mail(mail_id bigint DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    mails bigint;
BEGIN
    UPDATE leyser.mail_record m SET state = 'waiting', ended_at = NULL, attempts = 0, next_attempt_at = clock_timestamp(),
            give_up_at = clock_timestamp() + interval '72 hours', database_id = i.database_id
        FROM leyser.identity i
        WHERE m.state = 'dead' AND (m.mail_id = retry_mail.mail_id OR retry_mail.mail_id IS NULL);
    GET DIAGNOSTICS mails = ROW_COUNT;
    IF mails = 0 AND retry_mail.mail_id IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'LY008',
            MESSAGE = 'the mail is no dead letter', DETAIL = 'It waits, was sent or cancelled, or is unknown.', HINT = 'See view leyser.mail.';
    END IF;
    IF mails > 0 THEN
        PERFORM leyser.record_event('mail.retried', NULL, retry_mail.mail_id::text, jsonb_build_object('mails', mails));
        PERFORM pg_notify('leyser_mail', '');
    END IF;
    RETURN mails;
END
$$;
REVOKE ALL ON FUNCTION leyser.retry_mail(bigint) FROM PUBLIC;
COMMENT ON FUNCTION leyser.retry_mail(bigint) IS
    'operator: a dead letter, or all of them, is tried again at once, for another three days; a copy that was restored from a dump takes over what the database that it was dumped from had queued; returns how many; LY008 for a mail that is none';

CREATE FUNCTION leyser.prune_mail() RETURNS bigint
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    mails bigint;
BEGIN
    -- a dead letter stays until somebody has looked
    WITH old AS (
        SELECT m.mail_id FROM leyser.mail_record m
        WHERE m.state IN ('sent', 'cancelled') AND m.ended_at < leyser.shift_in_utc(clock_timestamp(), '-186 days') FOR UPDATE SKIP LOCKED
    ), attempts AS (
        DELETE FROM leyser.mail_attempt a USING old o WHERE a.mail_id = o.mail_id
    )
    DELETE FROM leyser.mail_record m USING old o WHERE m.mail_id = o.mail_id;
    GET DIAGNOSTICS mails = ROW_COUNT;
    RETURN mails;
END
$$;
REVOKE ALL ON FUNCTION leyser.prune_mail() FROM PUBLIC;
COMMENT ON FUNCTION leyser.prune_mail() IS
    'internal: removes mails that were sent or cancelled half a year ago, with their attempts; returns how many';

CREATE VIEW leyser.mail AS
    SELECT m.mail_id, m.notice_id, m.number, m.tenant_id, m.contact_id, m.language, m.message_id,
           CASE WHEN m.state = 'waiting' AND m.claim IS NOT NULL AND m.next_attempt_at > clock_timestamp() THEN 'claimed' ELSE m.state END AS state,
           m.queued_at, CASE WHEN m.state = 'waiting' THEN m.next_attempt_at END AS next_attempt_at, m.attempts,
           CASE WHEN m.state = 'waiting' THEN m.give_up_at END AS give_up_at, m.ended_at, m.last_error
    FROM leyser.mail_record m;
COMMENT ON VIEW leyser.mail IS
    'the outbox, one mail a recipient (operator, auditor): waiting, claimed, sent, dead (a dead letter: see retry_mail()) or cancelled (its contact was removed, or the contract has ended); whose address it is tells view contact';

CREATE VIEW leyser.mail_delivery AS
    SELECT a.claim, a.mail_id, m.notice_id, m.number, a.tenant_id, m.contact_id, a.claimed_at, coalesce(a.claimed_by, 'leyser.mail_command') AS claimed_by,
           a.lease_until, coalesce(a.outcome, CASE WHEN a.lease_until > clock_timestamp() THEN 'claimed' ELSE 'unknown' END) AS outcome,
           a.ended_at, a.detail
    FROM leyser.mail_attempt a JOIN leyser.mail_record m ON m.mail_id = a.mail_id;
COMMENT ON VIEW leyser.mail_delivery IS
    'each attempt to deliver a mail, by recipient (operator, auditor): claimed, sent, deferred, refused, or unknown (the lease ended, and nobody said what became of it), with the server''s answer, without the address';
