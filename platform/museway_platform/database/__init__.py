"""PostgreSQL, the only database: the embedded server, the chain of migrations, the pool. No business rules live here."""
