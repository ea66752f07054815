"""The counters of one engine call, and the record they become."""

from museway_billing.meter.meter import Meter, Reported, from_slot

__all__ = ["Meter", "Reported", "from_slot"]
