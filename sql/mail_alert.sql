-- Mails and notices that need somebody.

CREATE FUNCTION leyser.mail_alerts()
    RETURNS TABLE (alert text, subject text, since timestamptz, detail text, remedy text)
    LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY
    SELECT 'mail not sent', current_database()::text, m.since, format('%s mails wait, the oldest since %s.', m.waiting, leyser.told_time(m.since)),
           CASE WHEN (leyser.present_notice_policy()).mail_sender IS NULL THEN 'leyser.set_notice_policy(mail_sender => …);'
                ELSE 'Set leyser.mail_command, and see view leyser.job; or see to the worker that calls leyser.claim_mail().' END
    FROM (SELECT min(r.next_attempt_at) AS since, count(*) AS waiting FROM leyser.mail_record r
          WHERE r.state = 'waiting' AND r.next_attempt_at < clock_timestamp() - interval '15 minutes') m WHERE m.waiting > 0
    UNION ALL
    SELECT 'mail put off', current_database()::text, m.since,
           format('%s mails wait after attempts that failed, the last with: %s', m.waiting, m.last_error),
           'They are tried again, later each time, for three days. See view leyser.mail_delivery, leyser.mail_command and the mail server.'
    FROM (SELECT min(r.queued_at) AS since, count(*) AS waiting, (array_agg(r.last_error ORDER BY r.next_attempt_at DESC))[1] AS last_error
          FROM leyser.mail_record r WHERE r.state = 'waiting' AND r.last_error IS NOT NULL) m WHERE m.waiting > 0
    UNION ALL
    SELECT 'dead letters', current_database()::text, m.since, format('%s mails were given up, the last with: %s', m.dead, m.last_error),
           'See view leyser.mail: remove contacts that are gone with leyser.remove_contact(), or try again with leyser.retry_mail().'
    FROM (SELECT min(r.ended_at) AS since, count(*) AS dead, (array_agg(r.last_error ORDER BY r.ended_at DESC))[1] AS last_error
          FROM leyser.mail_record r WHERE r.state = 'dead') m WHERE m.dead > 0
    UNION ALL
    SELECT 'notice overdue', format('notice %s', n.notice_id), n.ends_at, format('Its planned end was %s.', leyser.told_time(n.ends_at)),
           format('leyser.end_notice(%s, …), or leyser.update_notice(%1$s, …) with another end.', n.notice_id)
    FROM leyser.notice_record n WHERE n.ended_at IS NULL AND n.ends_at < clock_timestamp() - interval '1 hour';
END
$$;
REVOKE ALL ON FUNCTION leyser.mail_alerts() FROM PUBLIC;
COMMENT ON FUNCTION leyser.mail_alerts() IS
    'internal: mails that wait, are put off or were given up, and notices of which nobody said that they have ended';
