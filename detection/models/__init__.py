"""Hold networks and heads, walks of core's graphs, with the ops that mmdet lacks and the weights to begin with."""
