-- End what is at work on the effect protocol now, those that wait for their commit to reach the disk first.
SELECT count(pg_terminate_backend(pid)) FROM (
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle' AND query ~ 'holdfast|COMMIT'
    ORDER BY wait_event ~* 'wal' DESC NULLS LAST LIMIT $1
) busy
