"""The first tables: requests and keys."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "marbury_requests",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("id", sa.String(64), nullable=False, unique=True),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("route", sa.String(64), nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("stream", sa.Boolean),
        sa.Column("outcome", sa.String(32), nullable=False),
        sa.Column("action", sa.String(16)),
        sa.Column("status", sa.Integer),
        sa.Column("stage", sa.String(16)),
        sa.Column("category", sa.Text),
        *(sa.Column(f"{side}_{what}", sa.Double) for side in ("input", "output") for what in ("score", "threshold")),
        sa.Column("verdicts", sa.JSON),
        sa.Column("input_mode", sa.String(16)),
        sa.Column("output_mode", sa.String(16)),
        *(sa.Column(name, sa.Text) for name in ("policy", "classifier", "key", "user_hash", "safety_identifier")),
        *(
            sa.Column(name, sa.Boolean)
            for name in ("flagged", "fail_open", "passed_unread", "judging_failed", "candidate")
        ),
        sa.Column("error", sa.Text),
        sa.Column("steps", sa.Integer),
        *(sa.Column(f"{name}seconds", sa.Double) for name in ("", "judging_", "reading_", "upstream_", "first_")),
        sa.Column("media", sa.Integer),
        sa.Column("drill", sa.Text),
        sa.Column("beside", sa.JSON),
        sa.Column("content", sa.JSON),
    )
    op.create_index("marbury_requests_time", "marbury_requests", ["time"])
    op.create_index("marbury_requests_flagged", "marbury_requests", ["flagged", "seq"])
    op.create_table(
        "marbury_keys",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("made", sa.Double, nullable=False),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("marbury_keys")
    op.drop_table("marbury_requests")
