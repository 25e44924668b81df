"""Read a config as our commands take it: checked, with the values that its data sets inherit."""
