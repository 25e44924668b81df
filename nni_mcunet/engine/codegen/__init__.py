"""Print a lowered program as C. It computes no number: plan() and lower() have."""
