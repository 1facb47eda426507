"""How long an execution is kept after its end; what is being erased; when a coordinator ended."""

import json

from alembic import op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"

DEFAULT_DAYS = 90
BATCH = 500

UP = (
    # ended_at is the database's clock; completed_at, which people see, is a coordinator's.
    f"""ALTER TABLE executions ADD COLUMN retention_days integer NOT NULL DEFAULT {DEFAULT_DAYS},
        ADD COLUMN ended_at timestamptz""",
    """CREATE INDEX executions_ended ON executions (retention_days, coalesce(ended_at, completed_at))
        WHERE status IN ('completed', 'failed', 'cancelled', 'timed_out')""",
    # What an erased execution leaves behind is removed in pieces, long after its row is gone.
    "CREATE TABLE erasures (execution_id uuid PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants)",
    "ALTER TABLE steps DROP CONSTRAINT steps_execution_id_fkey",
    "ALTER TABLE coordinators ADD COLUMN ended_at timestamptz",
)
DOWN = (
    "ALTER TABLE coordinators DROP COLUMN ended_at",
    "DELETE FROM steps USING erasures WHERE steps.execution_id = erasures.execution_id",
    "DELETE FROM journal USING erasures WHERE journal.execution_id = erasures.execution_id",
    "ALTER TABLE steps ADD FOREIGN KEY (execution_id) REFERENCES executions",
    "DROP TABLE erasures",
    "DROP INDEX executions_ended",
    "ALTER TABLE executions DROP COLUMN ended_at, DROP COLUMN retention_days",
)


def upgrade() -> None:
    for statement in UP:
        op.execute(statement)
    _read_retention_from_specs()


def downgrade() -> None:
    for statement in DOWN:
        op.execute(statement)


def _read_retention_from_specs() -> None:
    """Read here and not by the database, whose JSON cannot hold every text that a spec may."""
    connection = op.get_bind()
    page = text(
        "SELECT tenant_id, content_hash, spec FROM specs WHERE (tenant_id, content_hash) > (:tenant, :hash) "
        "ORDER BY tenant_id, content_hash LIMIT :batch"
    )
    write = text(
        "UPDATE executions SET retention_days = :days WHERE tenant_id = :tenant AND content_hash = :hash"
    )
    after = {"tenant": "00000000-0000-0000-0000-000000000000", "hash": ""}
    while rows := connection.execute(page, {**after, "batch": BATCH}).fetchall():
        for tenant, content_hash, spec in rows:
            days = (json.loads(spec).get("settings") or {}).get("retention_days", DEFAULT_DAYS)
            if days != DEFAULT_DAYS:
                connection.execute(write, {"days": days, "tenant": tenant, "hash": content_hash})
        after = {"tenant": str(rows[-1][0]), "hash": rows[-1][1]}
