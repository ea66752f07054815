"""What is changed afterwards, always by new entries: adjustments, corrections of records, unknown counts."""

from museway_billing.ledger.corrections.posting import Adjustment, Taken, give_back

__all__ = ["Adjustment", "Taken", "give_back"]
