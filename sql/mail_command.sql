-- What leyser.mail_command is given, and what its end means (src/mail.c).

CREATE FUNCTION leyser.mail_can_be_sent() RETURNS boolean
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN leyser.mail_is_due() AND current_setting('leyser.mail_command', true) <> ''
        AND (leyser.present_notice_policy()).mail_sender IS NOT NULL AND NOT leyser.restore_is_held();
END
$$;
REVOKE ALL ON FUNCTION leyser.mail_can_be_sent() FROM PUBLIC;
COMMENT ON FUNCTION leyser.mail_can_be_sent() IS
    'internal: whether a mail is due, and a program and a sender are set; not where a restore brought back what may have been sent since';

-- Programs that are like sendmail want line feeds alone.
CREATE FUNCTION leyser.claim_for_command(OUT claim text, OUT sender text, OUT recipient text, OUT message text, OUT is_doubtful boolean)
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    policy leyser.notice_policy := leyser.present_notice_policy();
    mail leyser.mail_record;
BEGIN
    IF NOT leyser.mail_can_be_sent() THEN
        RETURN;
    END IF;
    mail := leyser.claim_next_mail(current_setting('leyser.mail_timeout')::interval + interval '30 seconds', NULL);
    IF mail.mail_id IS NOT NULL THEN
        claim := mail.claim;
        sender := policy.mail_sender;
        recipient := mail.address;
        message := replace(leyser.mail_message(mail, policy), chr(13), '');
        is_doubtful := EXISTS (SELECT FROM leyser.mail_attempt a
                               WHERE a.mail_id = mail.mail_id AND a.claim <> mail.claim AND a.claimed_by IS NULL AND a.outcome IS NULL);
    END IF;
END
$$;
REVOKE ALL ON FUNCTION leyser.claim_for_command() FROM PUBLIC;
COMMENT ON FUNCTION leyser.claim_for_command() IS
    'internal: claims the mail that is due longest for leyser.mail_command, or returns NULLs; is_doubtful: nobody knows what became of an earlier attempt';

-- sysexits.h: 65 and 67 speak of the message and the recipient; msmtp tells a refused
-- recipient by 65.  69, 70 and so on may pass: of a doubt comes another try.  64, 66,
-- 71 to 74, 77, 78 and what no such program returns speak of the program's own set-up.
CREATE FUNCTION leyser.record_command(claim text, status integer, errors text) RETURNS text
    LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    outcome text := CASE WHEN status = 0 THEN 'sent' WHEN status IN (65, 67) THEN 'refused' ELSE 'deferred' END;
BEGIN
    PERFORM leyser.end_attempt(claim::uuid, outcome,
        CASE WHEN status < 0 THEN errors WHEN status = 0 THEN nullif(errors, '')
             ELSE concat_ws(': ', format('status %s', status), nullif(errors, '')) END);
    RETURN CASE WHEN outcome = 'deferred' AND status NOT IN (68, 69, 70, 75, 76) THEN 'stop' ELSE outcome END;
EXCEPTION WHEN undefined_object THEN
    -- a purge has erased it meanwhile
    RETURN 'gone';
END
$$;
REVOKE ALL ON FUNCTION leyser.record_command(text, integer, text) FROM PUBLIC;
COMMENT ON FUNCTION leyser.record_command(text, integer, text) IS
    'internal: what became of a mail by the exit status of leyser.mail_command (-1: it could not be run, or was killed): sent, refused, deferred, stop (no other mail need be tried now), or gone';

CREATE FUNCTION leyser.told_mail() RETURNS text
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    since timestamptz := (SELECT r.running_since FROM leyser.job_record r WHERE r.job = 'send mail');
BEGIN
    -- planned for this time: what came after it is a small part of half a year's attempts
    RETURN (SELECT format('mails sent: %s, put off: %s, refused: %s', count(*) FILTER (WHERE a.outcome = 'sent'),
                          count(*) FILTER (WHERE a.outcome = 'deferred'), count(*) FILTER (WHERE a.outcome = 'refused'))
            FROM leyser.mail_attempt a
            WHERE a.claimed_by IS NULL AND a.outcome IS NOT NULL AND a.claimed_at >= since
            HAVING count(*) > 0);
END
$$;
REVOKE ALL ON FUNCTION leyser.told_mail() FROM PUBLIC;
COMMENT ON FUNCTION leyser.told_mail() IS 'internal: what the present run of job send mail has done, or NULL';
