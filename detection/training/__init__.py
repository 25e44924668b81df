"""Train and test: hooks, the work dir, reports, and the int8 network in mmdet's test loop."""
