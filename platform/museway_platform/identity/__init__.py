"""Who asks: ids, secrets, principals, and the directory that turns a secret into a principal."""
