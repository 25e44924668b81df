"""Lower a plan and an int8 model to the calls of kernels, and run these in numpy."""
