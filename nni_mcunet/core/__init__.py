"""Hold the ground floor: the network (ir) and its plan (plan). It imports numpy, and torch in nn only."""
