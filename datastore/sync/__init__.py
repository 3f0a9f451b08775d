"""Remotes: what other stores have, and how versions get there and back."""
