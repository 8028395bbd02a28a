"""A delivery is verified, a dead letter can be sent again or dropped, a study can be held and let go."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add what verification notes; what was accepted before is not asked about, and the answer of a RIS is its word."""
    op.add_column("studies", sa.Column("let_go_at", sa.Float()))
    op.add_column("deliveries", sa.Column("check_at", sa.Float()))
    op.add_column("deliveries", sa.Column("verified_at", sa.Float()))
    for name in ("rounds", "checks", "resends"):
        op.add_column("deliveries", sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    for name, kind in (("check_step", sa.String(8)), ("verified_by", sa.String(16)), ("note", sa.Text())):
        op.add_column("deliveries", sa.Column(name, kind, nullable=False, server_default=""))
    op.create_index(
        "deliveries_to_check",
        "deliveries",
        ["destination", "check_at"],
        sqlite_where=sa.text("check_at IS NOT NULL"),
    )
    op.create_table(
        "commitments",
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("delivery_id", sa.String(length=160), nullable=False),
        sa.Column("sop_uid", sa.String(length=64), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("transaction_uid", "delivery_id"),
    )
    op.create_index("commitments_of_delivery", "commitments", ["delivery_id"])
    op.execute(
        "UPDATE deliveries SET state = 'verified', verified_at = accepted_at, verified_by = 'answer'"
        " WHERE state = 'accepted' AND answer = 'AA'"
    )
    op.execute("UPDATE deliveries SET note = 'accepted before deliveries were verified' WHERE state = 'accepted'")
