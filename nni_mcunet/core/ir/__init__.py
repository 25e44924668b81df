"""Say what is computed: the architecture as data, and the graph built from it. No memory, no schedule of tiles."""
