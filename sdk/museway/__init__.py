"""The Python SDK of Museway."""
