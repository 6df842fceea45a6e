"""A neural network in NumPy: right to the last digit that counts, and fast.

Each module belongs to a chapter of the mathematics part, which derives it by hand.
Layers take and return arrays whose first axis is the patient.
"""
