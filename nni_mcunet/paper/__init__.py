"""Recompute the figures of the MCUNetV2 paper, its baselines and its ways to count memory."""
