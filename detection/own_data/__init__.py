"""Make a detector's config of a folder of labelled pictures, whatever program labelled them."""
