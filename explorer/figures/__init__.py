"""Figures that stand still. The only code that knows plotly: arrays in, figures out."""
