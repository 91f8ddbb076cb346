"""Making it fast on the machine at hand: replacements that compute the same numbers, kept out of the chapters."""
