"""Show where a network's memory goes, as text, JSON and pictures."""
