"""Tell what a network needs of a board before there is any C: the work of `mcunet profile`."""
