"""Make an int8 model of a float one: ranges, equalisation, biases, and how much is lost. It writes no C."""
