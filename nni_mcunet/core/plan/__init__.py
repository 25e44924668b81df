"""Plan a network's memory: patched segments, their costs, the lives of tensors, the arena. It knows no C."""
