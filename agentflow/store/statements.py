"""The statements of the journal, each of which proves in itself that it may.

The coordinator's row is locked FOR SHARE while its lease is checked: whoever wants to bury the
coordinator waits until an append that has passed the check is committed, so the next owner sees it.
Time is the database's ``clock_timestamp()``; ``now()`` stands still in a transaction that waited.
Locks are always taken in this order: specs, coordinator, executions by id, blobs by tenant and content.
``$1`` and ``$2`` are the coordinator's id and epoch wherever a lease is needed.
"""

AHEAD_S = 2.0
"""How long before its time an execution that waits is taken up, so that it goes on at its time."""
KEPT = "signal:"
"""Begins the name of the wait of a signal that came before its wait; the rest is the signal's name."""
STRIKES = 3
"""Deaths of its owner, each while an attempt ran, that quarantine an execution."""
TRIED_S = 10
"""How long a coordinator watches a suspect of two strikes before it takes up the next one."""

LEASE = """lease AS MATERIALIZED (
    SELECT 1 FROM coordinators
     WHERE id = $1 AND epoch = $2 AND lease_until > clock_timestamp() FOR SHARE)"""

# The row of one long gone may have been removed: the clock makes its first epoch a new one again.
ENTER = """
INSERT INTO coordinators (id, epoch, lease_until)
VALUES ($1, extract(epoch FROM clock_timestamp())::bigint,
        clock_timestamp() + make_interval(secs => $2))
ON CONFLICT (id) DO UPDATE SET epoch = coordinators.epoch + 1, lease_until = excluded.lease_until
RETURNING epoch"""

KEEP = """
UPDATE executions SET owner_epoch = $2, updated_at = clock_timestamp()
 WHERE owner = $1 AND owner_epoch >= $3 AND owner_epoch <= $4
   AND status IN ('pending', 'running', 'waiting')"""

# Executions that are ours, locked in order; nothing is written of the others.
_OWNED = f"""{LEASE},
owned AS MATERIALIZED (
    SELECT e.execution_id, e.tenant_id, e.strikes FROM executions e, lease
     WHERE e.execution_id = ANY($3::uuid[]) AND e.owner = $1 AND e.owner_epoch = $2
     ORDER BY e.execution_id FOR NO KEY UPDATE OF e)"""

_WRITTEN = """written AS (
    INSERT INTO journal (execution_id, seq, tenant_id, epoch, kind, step, attempt, generation,
                         payload, at)
    SELECT r.id, r.seq, mine.tenant_id, $2, r.kind, r.step, r.attempt, r.generation, r.payload,
           to_timestamp(r.at)
      FROM unnest($4::uuid[], $5::bigint[], $6::text[], $7::text[], $8::int[], $9::int[],
                  $10::bytea[], $11::float8[])
           AS r(id, seq, kind, step, attempt, generation, payload, at)
      JOIN mine ON mine.execution_id = r.id
    RETURNING 1)"""

_FENCED = """agentflow_fence((SELECT count(*) FROM written), $12),
       (SELECT array_agg(execution_id) FROM owned WHERE strikes > 0) AS struck"""

APPEND = f"""
WITH {_OWNED},
mine AS (SELECT execution_id, tenant_id FROM owned),
{_WRITTEN}
SELECT {_FENCED}"""

# One statement, so one round trip: what one part of it writes no other part sees, so an execution that is
# accepted and over at once is inserted with its end. Nobody can wait for that one yet.
APPEND_WITH_ROWS = f"""
WITH spec AS (
    INSERT INTO specs (tenant_id, content_hash, spec)
    SELECT DISTINCT ON (t, h) t, h, s FROM unnest($13::uuid[], $14::text[], $15::bytea[]) AS r(t, h, s)
     ORDER BY t, h ON CONFLICT DO NOTHING RETURNING 1),
{_OWNED},
over AS MATERIALIZED (
    SELECT * FROM unnest($25::uuid[], $26::text[], $27::bytea[], $28::bytea[], $29::bytea[],
                         $30::bigint[], $31::float8[], $32::float8[], $33::int[], $34::float8[])
        AS r(id, status, final_state, output, error, tokens, cost, seconds, nodes, ended)),
accepted AS (
    INSERT INTO executions (owner, owner_epoch, owned_at, execution_id, tenant_id, content_hash,
        workflow_name, priority, initial_state, metadata, trace_id, status, created_at, started_at,
        retention_days, final_state, output, error, tokens_used, cost, execution_time, nodes_executed,
        completed_at, ended_at)
    SELECT $1, $2, clock_timestamp(), r.id, r.tenant, r.hash, r.name, r.priority, r.state, r.metadata,
           r.trace,
           coalesce(o.status, CASE WHEN r.started IS NULL THEN 'pending' ELSE 'running' END),
           to_timestamp(r.created), to_timestamp(r.started), r.days, o.final_state, o.output, o.error,
           coalesce(o.tokens, 0), coalesce(o.cost, 0), coalesce(o.seconds, 0), coalesce(o.nodes, 0),
           to_timestamp(o.ended), CASE WHEN o.id IS NOT NULL THEN clock_timestamp() END
      FROM lease, unnest($16::uuid[], $13::uuid[], $14::text[], $17::text[], $18::smallint[],
                         $19::bytea[], $20::bytea[], $21::text[], $22::float8[], $23::float8[],
                         $24::int[])
                  AS r(id, tenant, hash, name, priority, state, metadata, trace, created, started, days)
           LEFT JOIN over o ON o.id = r.id
     WHERE (SELECT count(*) FROM spec) >= 0
     ORDER BY r.id RETURNING execution_id, tenant_id),
mine AS (
    SELECT execution_id, tenant_id FROM owned UNION ALL SELECT execution_id, tenant_id FROM accepted),
{_WRITTEN},
closed AS (
    UPDATE executions SET status = r.status, final_state = r.final_state, output = r.output,
           error = r.error, tokens_used = r.tokens, cost = r.cost, execution_time = r.seconds,
           nodes_executed = r.nodes, completed_at = to_timestamp(r.ended),
           ended_at = clock_timestamp(), updated_at = clock_timestamp()
      FROM over r JOIN owned o ON o.execution_id = r.id WHERE executions.execution_id = r.id),
void AS (
    DELETE FROM commands WHERE execution_id = ANY($25::uuid[]) AND NOT id = ANY($43::bigint[])),
projected AS (
    INSERT INTO steps (execution_id, tenant_id, position, step, generation, node_id, status, details)
    SELECT * FROM unnest($35::uuid[], $36::uuid[], $37::int[], $38::text[], $39::int[], $40::text[],
                         $41::text[], $42::bytea[])
    ON CONFLICT (execution_id, step, generation) DO UPDATE
       SET position = excluded.position, status = excluded.status, details = excluded.details)
SELECT {_FENCED},
       (SELECT count(pg_notify('agentflow_outcomes', 'exec_' || replace(id::text, '-', '')))
          FROM over WHERE NOT id = ANY($16::uuid[])) AS told"""

CLEAR_STRIKES = """
UPDATE executions SET strikes = 0
 WHERE execution_id = ANY($3::uuid[]) AND owner = $1 AND owner_epoch = $2"""

STARTED = """
UPDATE executions SET status = 'running', updated_at = clock_timestamp(),
       started_at = coalesce(started_at, to_timestamp(r.at))
  FROM unnest($1::uuid[], $2::float8[]) AS r(id, at) WHERE execution_id = r.id"""

# What a command is for that was given before this moment goes on at once.
_WAKES = f"""CASE WHEN EXISTS (SELECT 1 FROM commands c
                   WHERE c.execution_id = r.id AND NOT starts_with(c.wait, '{KEPT}'))
          THEN clock_timestamp() ELSE to_timestamp(r.wake) END"""

WAITING = f"""
UPDATE executions SET status = 'waiting', updated_at = clock_timestamp(), wake_at = {_WAKES}
  FROM unnest($1::uuid[], $2::float8[]) AS r(id, wake) WHERE execution_id = r.id
RETURNING pg_notify('agentflow_outcomes', 'exec_' || replace(execution_id::text, '-', ''))"""

PARKED = f"""
UPDATE executions SET owner = NULL, owner_epoch = NULL, updated_at = clock_timestamp(),
       wake_at = {_WAKES}
  FROM unnest($1::uuid[], $2::float8[]) AS r(id, wake) WHERE execution_id = r.id"""

# A signal that came before its wait is now for it.
OPENED = f"""
WITH kept AS (
    UPDATE commands SET wait = $3
     WHERE execution_id = $1 AND $7 = 'signal' AND wait = '{KEPT}' || $8
    RETURNING at, asked_by,
              pg_notify('agentflow_commands', 'exec_' || replace(execution_id::text, '-', '')))
INSERT INTO waits (execution_id, tenant_id, wait_id, step, generation, node_id, kind, signal, due_at,
                   asks, assignees, answered_at, answered_by)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, to_timestamp($9), $10, $11, kept.at, kept.asked_by
  FROM (SELECT 1) AS one LEFT JOIN kept ON true"""

CLOSED = """
UPDATE waits SET closed_at = clock_timestamp() FROM unnest($1::uuid[], $2::text[]) AS r(id, wait)
 WHERE execution_id = r.id AND wait_id = r.wait AND closed_at IS NULL"""

OURS = f"""
WITH {LEASE}
SELECT e.execution_id, e.status FROM executions e, lease
 WHERE e.execution_id = ANY($3::uuid[]) AND e.owner = $1 AND e.owner_epoch = $2
 ORDER BY e.execution_id FOR NO KEY UPDATE OF e"""
"""Locks what is ours: whatever was committed for it before is seen by the statement that follows."""

EXPIRED = """
UPDATE waits SET closed_at = clock_timestamp() FROM unnest($1::uuid[], $2::text[]) AS r(id, wait)
 WHERE execution_id = r.id AND wait_id = r.wait AND closed_at IS NULL AND answered_at IS NULL"""

ANSWERED_BEFORE = """
SELECT execution_id, wait_id
  FROM waits JOIN unnest($1::uuid[], $2::text[]) AS r(id, wait)
    ON execution_id = r.id AND wait_id = r.wait
 WHERE answered_at IS NOT NULL"""

ANSWERED = """
WITH gone AS (DELETE FROM commands WHERE id = ANY($1::bigint[]) RETURNING 1)
SELECT agentflow_fence((SELECT count(*) FROM gone), $2)"""

LATE = """
UPDATE executions SET tokens_used = tokens_used + r.tokens, cost = executions.cost + r.cost,
       updated_at = clock_timestamp()
  FROM unnest($1::uuid[], $2::bigint[], $3::float8[]) AS r(id, tokens, cost)
 WHERE execution_id = r.id AND status IN ('completed', 'failed', 'cancelled', 'timed_out')"""
"""What came after the end; what came before it is part of the outcome."""

ORPHANED = f"""
WITH RECURSIVE owners AS (
    (SELECT owner, owner_epoch FROM executions
      WHERE status IN ('pending', 'running', 'waiting') AND owner IS NOT NULL
      ORDER BY owner, owner_epoch LIMIT 1)
    UNION ALL
    SELECT further.* FROM owners o, LATERAL (
        SELECT e.owner, e.owner_epoch FROM executions e
         WHERE e.status IN ('pending', 'running', 'waiting')
           AND (e.owner, e.owner_epoch) > (o.owner, o.owner_epoch)
         ORDER BY e.owner, e.owner_epoch LIMIT 1) AS further)
SELECT o.owner || ' ' || o.owner_epoch AS owner FROM owners o WHERE NOT EXISTS (
    SELECT 1 FROM coordinators c
     WHERE c.id = o.owner AND c.epoch = o.owner_epoch AND c.lease_until > '-infinity')
UNION ALL
SELECT NULL WHERE EXISTS (SELECT 1 FROM executions
                           WHERE owner IS NULL AND status IN ('pending', 'running'))
               OR EXISTS (SELECT 1 FROM executions
                           WHERE owner IS NULL AND status = 'waiting'
                             AND wake_at <= clock_timestamp() + make_interval(secs => {AHEAD_S}))"""
"""Dead owners of open executions, NULL for those that were released; what waits counts when its time
comes. A few index probes, however many executions are open. Who is dead at an epoch stays dead: a return
is a new epoch."""

# What waits and is not due stays where it is: it only loses its dead owner.
# Whether an attempt ran is told by the journal behind the last snapshot, and by that one's own list.
# What two owners in a row died with is a suspect: each coordinator takes up one at a time, until it has
# recorded something or had its time, so that the guilty one does not take the others down a third time.
# The dead are named by value: a row that somebody else took while we waited for it is looked at anew,
# and a join with the coordinators would then still answer for its former owner.
CLAIM = f"""
WITH {LEASE},
busy AS MATERIALIZED (
    SELECT e.execution_id,
           CASE WHEN e.owned_at < clock_timestamp() - interval '10 minutes' THEN 0
                ELSE e.strikes END
           + CASE WHEN e.owner IS NOT NULL AND EXISTS (
               SELECT 1 FROM (
                   SELECT DISTINCT ON (r.step, r.generation) r.kind FROM (
                       SELECT j.step, j.generation, j.seq, j.kind FROM journal j
                        WHERE j.execution_id = e.execution_id AND j.seq > coalesce(s.seq, 0)
                          AND j.step IS NOT NULL AND j.kind <> 'step.late'
                       UNION ALL
                       SELECT u.step, u.generation, 0, 'step.started'
                         FROM unnest(s.running, s.generations) AS u(step, generation)) AS r
                    ORDER BY r.step, r.generation, r.seq DESC) AS last
                WHERE last.kind = 'step.started')
             THEN 1 ELSE 0 END AS strikes
      FROM lease, executions e LEFT JOIN snapshots s ON s.execution_id = e.execution_id
     WHERE e.status IN ('pending', 'running')
       AND (e.owner IS NULL OR e.owner || ' ' || e.owner_epoch = ANY($4::text[]))
     ORDER BY e.strikes > 0, e.priority, e.created_at LIMIT $3 FOR UPDATE OF e SKIP LOCKED),
tried AS MATERIALIZED (
    SELECT 1 FROM executions e
     WHERE e.owner || ' ' || e.owner_epoch = $1 || ' ' || $2::bigint
       AND e.status IN ('pending', 'running') AND e.strikes = {STRIKES - 1}
       AND e.owned_at > clock_timestamp() - make_interval(secs => {TRIED_S}) LIMIT 1),
suspects AS (
    SELECT execution_id, strikes FROM busy
     WHERE strikes = {STRIKES - 1} AND NOT EXISTS (SELECT 1 FROM tried) LIMIT 1),
due AS MATERIALIZED (
    SELECT e.execution_id, e.strikes FROM executions e, lease
     WHERE e.status = 'waiting'
       AND e.wake_at <= clock_timestamp() + make_interval(secs => {AHEAD_S})
       AND (e.owner IS NULL OR e.owner || ' ' || e.owner_epoch = ANY($4::text[]))
     ORDER BY e.wake_at LIMIT $3 FOR UPDATE OF e SKIP LOCKED),
pick AS (
    SELECT * FROM busy WHERE strikes <> {STRIKES - 1}
    UNION ALL SELECT * FROM suspects UNION ALL SELECT * FROM due),
rest AS MATERIALIZED (
    SELECT e.execution_id FROM executions e, lease
     WHERE e.status = 'waiting' AND e.owner IS NOT NULL AND cardinality($4::text[]) > 0
       AND e.owner || ' ' || e.owner_epoch = ANY($4::text[])
       AND NOT EXISTS (SELECT 1 FROM due WHERE due.execution_id = e.execution_id)
     LIMIT 10 * $3 FOR UPDATE OF e SKIP LOCKED),
parked AS (
    UPDATE executions e SET owner = NULL, owner_epoch = NULL FROM rest
     WHERE e.execution_id = rest.execution_id),
taken AS (
    UPDATE executions e
       SET owner = CASE WHEN pick.strikes < {STRIKES} THEN $1 END,
           owner_epoch = CASE WHEN pick.strikes < {STRIKES} THEN $2 END,
           owned_at = clock_timestamp(), updated_at = clock_timestamp(), strikes = pick.strikes,
           status = CASE WHEN pick.strikes < {STRIKES} THEN e.status ELSE 'quarantined' END
      FROM pick WHERE e.execution_id = pick.execution_id
    RETURNING e.execution_id, e.tenant_id, e.content_hash, e.strikes, e.priority, e.created_at)
SELECT taken.*, s.spec FROM taken JOIN specs s USING (tenant_id, content_hash)
 WHERE taken.strikes < {STRIKES} ORDER BY taken.priority, taken.created_at"""

STRAYS = """
SELECT e.execution_id, e.tenant_id, e.content_hash, e.strikes, s.spec
  FROM executions e JOIN specs s USING (tenant_id, content_hash)
 WHERE e.owner = $1 AND e.owner_epoch = $2 AND e.status IN ('pending', 'running', 'waiting')
   AND NOT e.execution_id = ANY($3::uuid[])
 ORDER BY e.priority, e.created_at LIMIT $4"""

OWNED = """
SELECT e.execution_id FROM executions e JOIN coordinators c ON c.id = e.owner
 WHERE e.execution_id = ANY($3::uuid[]) AND e.owner = $1 AND e.owner_epoch = $2
   AND c.epoch = $2 AND c.lease_until > clock_timestamp()"""

LAST_SEQ = """
SELECT r.id, coalesce((SELECT max(j.seq) FROM journal j WHERE j.execution_id = r.id), 0) AS seq
  FROM unnest($1::uuid[]) AS r(id)"""

READ = """
SELECT seq, payload, tenant_id FROM journal WHERE execution_id = $1 AND seq > $2
 ORDER BY seq LIMIT $3"""

COMMANDS = f"""
SELECT id, execution_id, tenant_id, kind, payload, wait, asked_by, at FROM commands
 WHERE execution_id = ANY($1::uuid[]) AND NOT starts_with(wait, '{KEPT}') ORDER BY id"""

END_LEASE = """
UPDATE coordinators SET lease_until = '-infinity', ended_at = clock_timestamp()
 WHERE id = $1 AND epoch = $2"""

GIVE_UP = """
UPDATE executions SET owner = NULL, owner_epoch = NULL, updated_at = clock_timestamp()
 WHERE owner = $1 AND owner_epoch = $2 AND status IN ('pending', 'running', 'waiting')"""

GIVEN_UP = "SELECT pg_notify('agentflow_commands', '')"
"""Whoever listens for commands also looks for what has no owner."""
