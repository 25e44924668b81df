"""Give what leaves mmdet as plain data: a detector for the engine, its data and loss for the search."""
