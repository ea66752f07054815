"""What was posted for an organization, as a customer reads it."""
