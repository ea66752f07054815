"""How much somebody may ask: rate limits, concurrency, caps and credit, decided in one step."""
