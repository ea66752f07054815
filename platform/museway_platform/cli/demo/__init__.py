"""`museway demo`: from nothing to every mode answered, priced and proved, on one machine."""
