"""Results of steps that are kept for reuse."""

from alembic import op

revision = "0004"
down_revision = "0003"

UP = (
    # One for each tenant and content, the newest. It goes with the execution that did the work, so what
    # is too large for a row, and what it refers to, is named by that execution's blob_uses.
    """CREATE TABLE cached_results (
        tenant_id     uuid NOT NULL,
        key           bytea NOT NULL,
        execution_id  uuid NOT NULL,
        content       bytea NOT NULL,
        tokens        bigint NOT NULL DEFAULT 0,
        cost          double precision NOT NULL DEFAULT 0,
        kept_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
        expires_at    timestamptz NOT NULL,
        PRIMARY KEY (tenant_id, key))""",
    "CREATE INDEX cached_results_to_expire ON cached_results (expires_at)",
    "CREATE INDEX cached_results_by_execution ON cached_results (execution_id)",
)
DOWN = ("DROP TABLE cached_results",)


def upgrade() -> None:
    for statement in UP:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWN:
        op.execute(statement)
