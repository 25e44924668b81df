"""Pages of a firmware and of a search: one HTML file each, drawn by Vega-Lite, which needs no network."""
