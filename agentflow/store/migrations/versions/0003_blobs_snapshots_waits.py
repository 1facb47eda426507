"""Large values beside the rows; folds of long journals; what parked steps wait for."""

from alembic import op

revision = "0003"
down_revision = "0002"

UP = (
    # Content-addressed per tenant. touched_at: the last time that a writer asked for this content.
    """CREATE TABLE blobs (
        tenant_id   uuid NOT NULL REFERENCES tenants,
        sha256      bytea NOT NULL,
        size        bigint NOT NULL,
        media_type  text NOT NULL,
        touched_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (tenant_id, sha256))""",
    # No foreign keys: they are written with the rows that name a blob, and removed with these.
    """CREATE TABLE blob_uses (
        execution_id  uuid NOT NULL,
        tenant_id     uuid NOT NULL,
        sha256        bytea NOT NULL,
        PRIMARY KEY (execution_id, sha256))""",
    "CREATE INDEX blob_uses_by_blob ON blob_uses (tenant_id, sha256)",
    # format: what wrote it. A fold is only a shortcut: one of another format is not looked at.
    """CREATE TABLE snapshots (
        execution_id  uuid PRIMARY KEY,
        tenant_id     uuid NOT NULL,
        seq           bigint NOT NULL,
        format        text NOT NULL,
        state         bytea NOT NULL,
        at            timestamptz NOT NULL DEFAULT clock_timestamp())""",
    # An answered one stays, so that a second answer is a conflict for ever.
    """CREATE TABLE waits (
        execution_id  uuid NOT NULL,
        tenant_id     uuid NOT NULL REFERENCES tenants,
        wait_id       text NOT NULL,
        step          text NOT NULL,
        generation    integer NOT NULL DEFAULT 0,
        node_id       text NOT NULL,
        kind          text NOT NULL,
        signal        text,
        due_at        timestamptz,
        form          bytea,
        assignees     text[] NOT NULL DEFAULT '{}',
        created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
        answered_at   timestamptz,
        answered_by   text,
        closed_at     timestamptz,
        PRIMARY KEY (execution_id, wait_id))""",
    "ALTER TABLE commands ADD COLUMN asked_by text",
    # Parked executions are woken by their rows alone.
    """CREATE INDEX executions_to_wake ON executions (wake_at)
        WHERE status = 'waiting' AND wake_at IS NOT NULL""",
)
DOWN = (
    "DROP INDEX executions_to_wake",
    "ALTER TABLE commands DROP COLUMN asked_by",
    "DROP TABLE waits, snapshots, blob_uses, blobs",
)


def upgrade() -> None:
    for statement in UP:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWN:
        op.execute(statement)
