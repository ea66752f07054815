"""Why was I limited: what a refusal was decided on, kept as it was at the decision."""
