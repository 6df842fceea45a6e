"""Helpers of the book *Neural Networks for Healthcare, in Python*.

Each module is introduced by a chapter, which builds the idea small, proves its
version equal to the one here, and then imports it. Importing this package loads
neither TensorFlow nor Matplotlib.
"""
