"""Tenants, keys, specs, executions with their journal, coordinators."""

from alembic import op

revision = "0001"
down_revision = None

DEFAULT_TENANT = "01900000-0000-7000-8000-000000000001"

TABLES = f"""
CREATE TABLE tenants (
    tenant_id   uuid PRIMARY KEY,
    name        text NOT NULL UNIQUE,
    status      text NOT NULL DEFAULT 'active',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
INSERT INTO tenants (tenant_id, name) VALUES ('{DEFAULT_TENANT}', 'default');

CREATE TABLE api_keys (
    key_id        text PRIMARY KEY,
    tenant_id     uuid NOT NULL REFERENCES tenants,
    name          text NOT NULL,
    key_hash      bytea NOT NULL UNIQUE,
    status        text NOT NULL DEFAULT 'active',
    last_used_at  timestamptz,
    expires_at    timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name)
);

CREATE TABLE specs (
    tenant_id     uuid NOT NULL REFERENCES tenants,
    content_hash  text NOT NULL,
    spec          bytea NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, content_hash)
);

CREATE TABLE coordinators (
    id           text PRIMARY KEY,
    epoch        bigint NOT NULL,
    lease_until  timestamptz NOT NULL
);

-- What users put in and get out is kept as encoded bytes, so that it can be encrypted.
CREATE TABLE executions (
    execution_id    uuid PRIMARY KEY,
    tenant_id       uuid NOT NULL REFERENCES tenants,
    content_hash    text NOT NULL,
    workflow_name   text,
    status          text NOT NULL DEFAULT 'pending',
    priority        smallint NOT NULL DEFAULT 3,
    initial_state   bytea NOT NULL,
    metadata        bytea NOT NULL,
    final_state     bytea,
    output          bytea,
    error           bytea,
    tokens_used     bigint NOT NULL DEFAULT 0,
    cost            numeric(20, 6) NOT NULL DEFAULT 0,
    execution_time  double precision NOT NULL DEFAULT 0,
    nodes_executed  integer NOT NULL DEFAULT 0,
    trace_id        text,
    owner           text,
    owner_epoch     bigint,
    owned_at        timestamptz,
    wake_at         timestamptz,
    strikes         integer NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at      timestamptz,
    completed_at    timestamptz,
    updated_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    FOREIGN KEY (tenant_id, content_hash) REFERENCES specs
);
-- Ids are sortable by time, so newest first is the order of the ids.
CREATE INDEX executions_by_tenant ON executions (tenant_id, execution_id DESC);
CREATE INDEX executions_by_status ON executions (tenant_id, status, execution_id DESC);
CREATE INDEX executions_open ON executions (priority, created_at)
    WHERE status IN ('pending', 'running', 'waiting');
CREATE INDEX executions_by_owner ON executions (owner, owner_epoch)
    WHERE status IN ('pending', 'running', 'waiting');

-- No foreign key to executions: every insert joins the locked row of its execution.
CREATE TABLE journal (
    execution_id  uuid NOT NULL,
    seq           bigint NOT NULL,
    tenant_id     uuid NOT NULL,
    epoch         bigint NOT NULL,
    kind          text NOT NULL,
    step          text,
    attempt       integer,
    generation    integer,
    payload       bytea NOT NULL,
    at            timestamptz NOT NULL,
    PRIMARY KEY (execution_id, seq)
);
CREATE UNIQUE INDEX journal_one_end ON journal (execution_id, step, generation)
    WHERE kind IN ('step.completed', 'step.failed', 'step.skipped', 'step.cancelled',
                   'step.timed_out');

CREATE TABLE commands (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    execution_id  uuid NOT NULL REFERENCES executions,
    tenant_id     uuid NOT NULL REFERENCES tenants,
    wait          text NOT NULL,
    kind          text NOT NULL,
    payload       bytea NOT NULL,
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (execution_id, wait)
);

-- A projection of the journal, written when the execution ends.
CREATE TABLE steps (
    execution_id  uuid NOT NULL REFERENCES executions,
    tenant_id     uuid NOT NULL REFERENCES tenants,
    position      integer NOT NULL,
    step          text NOT NULL,
    generation    integer NOT NULL DEFAULT 0,
    node_id       text NOT NULL,
    status        text NOT NULL,
    details       bytea NOT NULL,
    PRIMARY KEY (execution_id, step, generation)
);

-- Ends a write whose fence does not hold: fewer rows than were sent.
CREATE FUNCTION agentflow_fence(written bigint, sent bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
BEGIN
    IF written IS DISTINCT FROM sent THEN
        RAISE EXCEPTION 'fenced out: % of % rows', written, sent USING ERRCODE = 'AF001';
    END IF;
    RETURN written;
END $$;
"""

REMOVAL = """
DROP FUNCTION agentflow_fence(bigint, bigint);
DROP TABLE steps, commands, journal, executions, coordinators, specs, api_keys, tenants;
"""


def upgrade() -> None:
    for statement in _statements(TABLES):
        op.execute(statement)


def downgrade() -> None:
    for statement in _statements(REMOVAL):
        op.execute(statement)


def _statements(script: str) -> list[str]:
    """The driver takes one statement at a time; a function's body is one statement."""
    body, found = False, [""]
    for line in script.splitlines():
        if line.startswith("--"):
            continue
        body ^= line.count("$$") % 2 == 1
        found[-1] += line + "\n"
        if line.endswith(";") and not body:
            found.append("")
    return [statement for statement in found if statement.strip()]
