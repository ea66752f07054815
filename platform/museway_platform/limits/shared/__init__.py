"""The limiter of many gateway processes: counters in Redis or Valkey, changed by one script (decision 0020)."""
