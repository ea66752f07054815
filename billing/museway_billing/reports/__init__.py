"""Usage and costs as stored: roll-ups, queries, export."""

from museway_billing.reports.query import Bucket, Dimension, RecordKey, UsageFilter, UsageRow

__all__ = ["Bucket", "Dimension", "RecordKey", "UsageFilter", "UsageRow"]
