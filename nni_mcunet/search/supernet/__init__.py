"""Train the super-network and cut networks out of it: supernet (the sharing of weights), training (its recipe and what
its slices are for), fit (the one loop), distributed (torchrun), recipe_options (flags and files of a recipe).

The data's task says what networks are trained for, see ../data/classification.py.
"""
