"""Check the figures that the papers print: their networks, their rules of memory, their tables."""
