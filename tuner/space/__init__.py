"""What may vary in a search, and under which conditions."""
