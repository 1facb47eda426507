"""Large values beside the rows; folds of long journals; what parked steps wait for."""

from alembic import op

revision = "0003"
down_revision = "0002"

UP = (
    # Which blobs are this database's, wherever they are kept: several databases may share a place.
    "CREATE TABLE blob_space (space uuid PRIMARY KEY DEFAULT gen_random_uuid())",
    "INSERT INTO blob_space DEFAULT VALUES",
    # Content-addressed per tenant. made: a row that was collected and made again is another one.
    # touched_at: the last time that a writer asked for this content. look_at: when the collector looks
    # at it next; 'infinity' while it is used.
    """CREATE TABLE blobs (
        tenant_id   uuid NOT NULL REFERENCES tenants,
        sha256      bytea NOT NULL,
        size        bigint NOT NULL,
        media_type  text NOT NULL,
        made        bigint GENERATED ALWAYS AS IDENTITY,
        touched_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
        look_at     timestamptz NOT NULL DEFAULT clock_timestamp() + interval '1 hour',
        PRIMARY KEY (tenant_id, sha256))""",
    "CREATE INDEX blobs_to_look_at ON blobs (look_at) WHERE look_at < 'infinity'",
    # No foreign keys: they are written with the rows that name a blob, and removed with these.
    """CREATE TABLE blob_uses (
        execution_id  uuid NOT NULL,
        tenant_id     uuid NOT NULL,
        sha256        bytea NOT NULL,
        PRIMARY KEY (execution_id, sha256))""",
    "CREATE INDEX blob_uses_by_blob ON blob_uses (tenant_id, sha256)",
    # format: what wrote it. A fold is only a shortcut: one of another format is not looked at. running,
    # generations: the steps whose attempts are under way in it. It goes with its execution.
    """CREATE TABLE snapshots (
        execution_id  uuid PRIMARY KEY REFERENCES executions ON DELETE CASCADE,
        tenant_id     uuid NOT NULL,
        seq           bigint NOT NULL,
        format        text NOT NULL,
        state         bytea NOT NULL,
        running       text[] NOT NULL DEFAULT '{}',
        generations   integer[] NOT NULL DEFAULT '{}',
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
        asks          bytea NOT NULL,
        assignees     text[] NOT NULL DEFAULT '{}',
        created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
        answered_at   timestamptz,
        answered_by   text,
        closed_at     timestamptz,
        PRIMARY KEY (execution_id, wait_id))""",
    "ALTER TABLE commands ADD COLUMN asked_by text",
    # guarded: the epoch at which a session of the coordinator holds the lock that tells it lives.
    "ALTER TABLE coordinators ADD COLUMN guarded bigint",
    # Parked executions have no owner and are woken by their rows alone; whoever looks for work that has
    # no owner must not read all of them.
    """CREATE INDEX executions_to_wake ON executions (wake_at)
        WHERE status = 'waiting' AND wake_at IS NOT NULL""",
    "DROP INDEX executions_open",
    """CREATE INDEX executions_open ON executions (priority, created_at)
        WHERE status IN ('pending', 'running')""",
    """CREATE INDEX executions_released ON executions (execution_id)
        WHERE owner IS NULL AND status IN ('pending', 'running')""",
    # Those that waited before are looked at once.
    """UPDATE executions SET owner = NULL, owner_epoch = NULL, wake_at = clock_timestamp()
        WHERE status = 'waiting' AND wake_at IS NULL""",
)
DOWN = (
    "DROP INDEX executions_to_wake, executions_open, executions_released",
    """CREATE INDEX executions_open ON executions (priority, created_at)
        WHERE status IN ('pending', 'running', 'waiting')""",
    "ALTER TABLE coordinators DROP COLUMN guarded",
    "ALTER TABLE commands DROP COLUMN asked_by",
    "DROP TABLE waits, snapshots, blob_uses, blobs, blob_space",
)


def upgrade() -> None:
    for statement in UP:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWN:
        op.execute(statement)
