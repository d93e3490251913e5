"""From sampled values to a plan (plain arithmetic), and from a plan to one network."""
