"""A study can be forced, discarded, counted and waited for; a generation says how long was waited and why."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add what completion notes; the pauses of earlier studies are not known, so nothing is learned from them."""
    for name in ("forced_at", "discarded_at", "asked_at"):
        op.add_column("studies", sa.Column(name, sa.Float()))
    op.add_column("studies", sa.Column("expected_count", sa.Integer()))
    for name in ("calling_ae", "modality"):
        op.add_column("generations", sa.Column(name, sa.String(16), nullable=False, server_default=""))
    for name in ("longest_pause_s", "late_pause_s"):
        op.add_column("generations", sa.Column(name, sa.Float(), nullable=False, server_default="0"))
    op.add_column("generations", sa.Column("basis", sa.Text(), nullable=False, server_default=""))
    op.add_column("generations", sa.Column("wait_until", sa.Float()))
    op.create_index("generations_of_sender", "generations", ["calling_ae", "modality", "frozen_at"])
