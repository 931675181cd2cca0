"""The tables of the audit database. Their making and changing is in `migrations`; a test compares the two."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

VERSION_TABLE = "marbury_schema"
metadata = MetaData()

requests = Table(
    "marbury_requests",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),  # the order of writing
    Column("id", String(64), nullable=False, unique=True),  # x-marbury-request-id
    Column("time", Double, nullable=False),  # seconds since 1970
    Column("route", String(64), nullable=False),
    Column("model", Text),
    Column("stream", Boolean),
    Column("outcome", String(32), nullable=False),
    Column("action", String(16)),  # allow, block, would_block, refuse or error
    Column("status", Integer),
    Column("stage", String(16)),  # input or output: which was flagged
    Column("category", Text),
    Column("input_score", Double),
    Column("input_threshold", Double),
    Column("output_score", Double),  # of the channel with the highest
    Column("output_threshold", Double),
    Column("verdicts", JSON),  # all of them, by choice and channel
    Column("input_mode", String(16)),
    Column("output_mode", String(16)),
    Column("policy", Text),
    Column("classifier", Text),
    Column("candidate", Boolean),  # whether the candidate decided
    Column("beside", JSON),  # what the guard said that only watched
    Column("drill", Text),  # a drill's word: no classifier was asked
    Column("key", Text),
    Column("user_hash", Text),  # not "user": PostgreSQL would read that as its own
    Column("safety_identifier", Text),
    Column("flagged", Boolean),  # enforced, so that it counts for the account
    Column("fail_open", Boolean),  # the setting
    Column("passed_unread", Boolean),  # what it led to
    Column("judging_failed", Boolean),
    Column("error", Text),
    Column("steps", Integer),  # tokens of the reply that were scored
    Column("seconds", Double),
    Column("judging_seconds", Double),
    Column("reading_seconds", Double),
    Column("upstream_seconds", Double),
    Column("first_seconds", Double),
    Column("media", Integer),  # images, audio and files that nobody scored
    Column("content", JSON),
    Index("marbury_requests_time", "time"),
    Index("marbury_requests_flagged", "flagged", "seq"),
)

keys = Table(
    "marbury_keys",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("made", Double, nullable=False),
)

COLUMNS = tuple(column.name for column in requests.columns if column.name != "seq")
