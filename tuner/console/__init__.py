"""What the person sees. Nothing else draws."""
