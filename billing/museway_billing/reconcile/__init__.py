"""Proves I1 to I5 on what is stored, or names what differs."""

from museway_billing.reconcile.reconcile import Progress, reconcile, silent
from museway_billing.reconcile.report import Check, Difference, JournalLeft, Report, Sums

__all__ = ["Check", "Difference", "JournalLeft", "Progress", "Report", "Sums", "reconcile", "silent"]
