"""Count the instructions of a firmware layer by layer, and estimate its cycles."""
