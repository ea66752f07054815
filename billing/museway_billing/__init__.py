"""What it costs and who paid: prices, meter, journal, ledger, receipts. Knows no model and no HTTP server."""
