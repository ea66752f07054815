"""How the model answers: worker wire, modes, pool. Knows no money and no HTTP server."""
