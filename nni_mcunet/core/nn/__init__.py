"""Compute a graph in torch, float or with simulated int8. No other room of core imports torch."""
